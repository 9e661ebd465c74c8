"""Lets gcloud's own parser read command lines; run by gcloud's Python, the argument is its folder.

Reads a JSON list of argument lists; writes, for each, the exit code and what gcloud said. Without
an account a command that parses ends with 1, where it would sign in; one that doesn't, with 2.
"""

import contextlib
import io
import json
import os
import sys

sys.path[:0] = [f"{sys.argv[1]}/lib", f"{sys.argv[1]}/lib/third_party"]

from googlecloudsdk import gcloud_main  # noqa: E402
from googlecloudsdk.core import log  # noqa: E402

# A command may close the standard output that it is given.
output = os.fdopen(os.dup(1), "w")
cli = gcloud_main.CreateCLI([])
answers = []
for arguments in json.load(sys.stdin):
    said = io.StringIO()
    log.Reset(said, said)
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            cli.Execute(arguments)
            code = 0
        except SystemExit as end:
            code = end.code
    answers.append({"code": code, "said": said.getvalue()})
with output:
    json.dump(answers, output)
