"""The OpenAPI document: it is committed, true, and enough for a typed client."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from api import openapi
from api.main import compose
from ray_job.bucket import receipts
from tests.api.fixtures.bucket import STORES, Bucket, StoreSpec
from tests.api.fixtures.records import receipt
from tests.api.fixtures.serving import serve
from tests.api.fixtures.tokens import key_set, serve_keys, token, write_grants

TYPESCRIPT = Path(__file__).parent / "typescript"


def test_the_committed_document_is_that_of_the_service(tmp_path):
    committed = openapi.COMMITTED.read_text(encoding="utf-8")
    assert committed == openapi.text(compose()), "run `python -m api.openapi`"
    with serve(str(tmp_path)) as api:
        assert api.get("/openapi.json").json() == json.loads(committed)


def test_every_operation_is_named_and_every_number_described():
    document = json.loads(openapi.COMMITTED.read_text(encoding="utf-8"))
    ids = [path["get"]["operationId"] for path in document["paths"].values()]
    assert sorted(ids) == sorted(set(ids))
    assert {"getForecast", "listStores", "batchGetForecasts", "getHistory"} <= set(ids)
    for name in ("ItemDay", "TotalDay", "Forecast", "StoreSummary"):
        for field, schema in document["components"]["schemas"][name]["properties"].items():
            assert "description" in schema or field in ("days", "items"), (name, field)


def test_every_answer_is_documented(tmp_path):
    """Schemathesis with all its phases: no 5xx, no undocumented status, header, type or body."""
    bucket = Bucket.make(tmp_path)
    bucket.publish((*STORES, StoreSpec("17", items=("a", "b"))))
    receipts.write(bucket.storage, receipt("run-2026-11-22-a"))
    write_grants(bucket.storage, {"subject": "olga", "stores": "*", "role": "operator"})
    with (
        serve_keys(key_set("k1")) as key_server,
        serve(str(tmp_path), issuers=(key_server.issuer(),)) as api,
    ):
        done = subprocess.run(
            [
                *(Path(sys.executable).parent / "st", "run", openapi.COMMITTED),
                *("--url", f"http://127.0.0.1:{api.port}"),
                *("--header", f"Authorization: Bearer {token('olga')}"),
                *("--phases", "examples,coverage,fuzzing,stateful"),
                *("--checks", "all"),
                # A page token or a date may be well formed, and the service has nothing for it.
                *("--exclude-checks", "positive_data_acceptance"),
                *("--max-examples", "20", "--seed", "1", "--no-color"),
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "Tested: 9" in done.stdout


def test_a_typed_client_compiles(tmp_path):
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    for name in ("package.json", "client.ts"):
        shutil.copy(TYPESCRIPT / name, tmp_path)
    installed = subprocess.run(
        [
            *(npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"),
            *("--fetch-retries=0", "--fetch-timeout=20000"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        timeout=240,
    )
    if installed.returncode != 0:
        pytest.skip(f"npm cannot install: {installed.stderr[-300:]}")
    tools = tmp_path / "node_modules" / ".bin"
    for command in (
        [tools / "openapi-typescript", openapi.COMMITTED, "-o", "schema.d.ts"],
        [
            *(tools / "tsc", "--noEmit", "--strict", "--skipLibCheck", "--target", "es2022"),
            *("--module", "nodenext", "--moduleResolution", "nodenext", "client.ts"),
        ],
    ):
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
