"""Parses command lines with gcloud's own parser: `python gcloud_parser.py SDK_FOLDER`.

gcloud's own Python runs it. Reads a JSON list of argument lists and writes, for each, the exit code
and gcloud's output. Without an account a command that parses ends with 1, since it cannot sign in;
a command that does not parse ends with 2.
"""

import contextlib
import io
import json
import os
import sys

sys.path[:0] = [f"{sys.argv[1]}/lib", f"{sys.argv[1]}/lib/third_party"]

from googlecloudsdk import gcloud_main  # noqa: E402
from googlecloudsdk.core import log  # noqa: E402

# A command may close its standard output.
own_stdout = os.fdopen(os.dup(1), "w")
cli = gcloud_main.CreateCLI([])
answers = []
for arguments in json.load(sys.stdin):
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
