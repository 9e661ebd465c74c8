"""Parses command lines with gcloud's own parser: `python gcloud_parser.py SDK_FOLDER`.

gcloud's own Python runs it. Reads a JSON list of argument lists and writes, for each, the exit code
and gcloud's output. Without an account a command that parses ends with 1, since it cannot sign in;
a command that does not parse ends with 2. Instead of an argument list, `{"message": "API VERSION
CLASS", "body": …}` is a resource: it is decoded with the API's messages, and a field that they lack
ends with 2.
"""

import contextlib
import io
import json
import os
import sys

sys.path[:0] = [f"{sys.argv[1]}/lib", f"{sys.argv[1]}/lib/third_party"]

from googlecloudsdk import gcloud_main  # noqa: E402
from googlecloudsdk.api_lib.util import apis  # noqa: E402
from googlecloudsdk.api_lib.util import messages as messages_util  # noqa: E402
from googlecloudsdk.core import log  # noqa: E402

# A command may close its standard output.
own_stdout = os.fdopen(os.dup(1), "w")
cli = gcloud_main.CreateCLI([])
answers = []
for arguments in json.load(sys.stdin):
    if isinstance(arguments, dict):
        api, version, name = arguments["message"].split()
        message = getattr(apis.GetMessagesModule(api, version), name)
        try:
            messages_util.DictToMessageWithErrorCheck(arguments["body"], message)
            answers.append({"code": 0, "output": ""})
        except Exception as error:  # noqa: BLE001 - several classes, of several libraries
            answers.append({"code": 2, "output": str(error)})
        continue
    output = io.StringIO()
    log.Reset(output, output)
    with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
        try:
            cli.Execute(arguments)
            code = 0
        except SystemExit as end:
            code = end.code
    answers.append({"code": code, "output": output.getvalue()})
with own_stdout:
    json.dump(answers, own_stdout)
