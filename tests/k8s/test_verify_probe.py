"""verify's probe, which runs in a pod: it sees the rights of its account and changes nothing."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from k8s.gcp.verification import probe, rights
from tests.k8s.support.sound_project import (
    RIGHTS,
    SETTINGS,
)

RECEIPT = "results/receipts/as_of=2026-11-22/a.json"


def cloud_storage(action, name, generation):
    """The status of a request: the rights come first, then the object, then its generation."""
    granted = rights.wanted(SETTINGS["GRANTS"])["storecast-job"][action]
    if not any(name.startswith(prefix) for prefix in granted):
        return 403
    if action != "create" and name != RECEIPT:
        return 404
    is_met = {"0": name != RECEIPT, "1": False, None: True}[generation]
    return 200 if is_met else 412


@pytest.fixture
def bucket_server():
    changed = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_arguments):
            pass

        def respond(self, action):
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            code, body = 200, {"access_token": "storecast-job", "items": [{"name": RECEIPT}]}
            if "service-accounts" not in self.path and "prefix" not in query:
                name = query.get("name") or unquote(parts.path.partition("/o/")[2])
                code = cloud_storage(action, name, query.get("ifGenerationMatch"))
                if action != "read" and code == 200:
                    changed.append(name)
            content = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self):
            self.respond("read")

        def do_POST(self):
            self.respond("create")

        def do_DELETE(self):
            self.respond("delete")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
    assert changed == [], "verify changes nothing"


def test_the_probe_sees_the_rights_and_changes_nothing(bucket_server):
    prefixes = list(RIGHTS["storecast-job"])
    process = subprocess.run(
        [sys.executable, "-c", Path(probe.__file__).read_text(), "b", *prefixes],
        env={
            **os.environ,
            "GCE_METADATA_HOST": bucket_server,
            "STORAGE_EMULATOR_HOST": f"http://{bucket_server}",
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        },
        check=True,
        capture_output=True,
        text=True,
    )
    seen = json.loads(process.stdout)
    assert seen["rights"] == RIGHTS["storecast-job"]
    assert seen["race"] == 412
    assert seen["kubernetes"] is False
