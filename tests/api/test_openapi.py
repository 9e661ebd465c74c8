"""The OpenAPI document: it is committed, true, and enough for a typed client."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

from api import openapi
from api.main import compose
from api.problems import KINDS_BY_SLUG
from api.views.access_schemas import Me, ReleaseList
from api.views.examples import EXAMPLES, problem_example
from api.views.history_schemas import History
from api.views.problem_schemas import SCHEMAS
from api.views.schemas import Batch, Forecast, StoreList
from ray_job.bucket import receipts
from ray_job.bucket.reasons import Method
from ray_job.bucket.receipts import Receipt
from ray_job.forecasting.predict import METHODS
from tests.api.fixtures.answers import fits
from tests.api.fixtures.bucket import STORES, Bucket, StoreSpec
from tests.api.fixtures.npm import CHECKS, npm_folder, run_tool
from tests.api.fixtures.records import receipt
from tests.api.fixtures.serving import serve
from tests.api.fixtures.tokens import key_set, serve_keys, token, write_grants


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
    assert "Tested: 10" in done.stdout


def test_the_typed_client_of_the_readme_compiles(tmp_path):
    readme = (openapi.COMMITTED.parent / "README.md").read_text(encoding="utf-8")
    (client,) = re.findall(r"^```ts\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    (tmp_path / "client.ts").write_text(client, encoding="utf-8")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "node_modules").symlink_to(npm_folder() / "node_modules")
    for tool, arguments in (
        ("openapi-typescript", (openapi.COMMITTED, "-o", "schema.d.ts")),
        (
            "tsc",
            (
                *("--noEmit", "--strict", "--skipLibCheck", "--target", "es2022"),
                *("--module", "nodenext", "--moduleResolution", "nodenext", "client.ts"),
            ),
        ),
    ):
        done = run_tool(tool, *arguments, folder=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr


def test_linters_have_nothing_to_say(tmp_path):
    """The default rules of Redocly and Spectral: no error and no warning."""
    redocly = run_tool("redocly", "lint", openapi.COMMITTED, "--format=json", folder=tmp_path)
    assert json.loads(redocly.stdout)["problems"] == [], redocly.stdout[-3000:]
    rules = CHECKS / ".spectral.yaml"
    spectral = run_tool(
        *("spectral", "lint", "-r", rules, "--fail-severity=warn", openapi.COMMITTED),
        folder=tmp_path,
    )
    assert spectral.returncode == 0, spectral.stdout


def test_the_document_has_what_a_reader_needs():
    document = json.loads(openapi.COMMITTED.read_text(encoding="utf-8"))
    assert document["servers"]
    assert {"contact", "license", "description"} <= set(document["info"])
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    for path, operations in document["paths"].items():
        operation = operations["get"]
        assert {"summary", "description"} <= set(operation), path
        assert set(operation["tags"]) <= tags
        for media_type, content in operation["responses"]["200"]["content"].items():
            assert "example" in content or "parquet" in media_type, (path, media_type)
        for status, response in operation["responses"].items():
            for content in response.get("content", {}).values() if status != "200" else ():
                slugs = set(content["examples"])
                schemas = content["schema"].get("oneOf", [content["schema"]])
                names = {schema["$ref"].rpartition("/")[2] for schema in schemas}
                assert names == {SCHEMAS[slug].__name__ for slug in slugs}
                for slug in slugs:
                    assert KINDS_BY_SLUG[slug].status == int(status)


def test_examples_have_every_field_and_agree_with_their_schemas():
    for name, model in (
        ("forecast", Forecast), ("stores", StoreList), ("batch", Batch), ("history", History),
        ("me", Me), ("releases", ReleaseList), ("run", Receipt),
    ):  # fmt: skip
        content = json.dumps(EXAMPLES[name]).encode()
        assert set(fits(model, content).model_fields_set) == set(model.model_fields), name
    for slug, schema in SCHEMAS.items():
        schema.model_validate_json(json.dumps(problem_example(KINDS_BY_SLUG[slug])))


def test_every_kind_of_problem_has_a_schema():
    assert set(SCHEMAS) == set(KINDS_BY_SLUG)
    for slug, schema in SCHEMAS.items():
        (status,) = get_args(schema.model_fields["status"].annotation)
        assert status == KINDS_BY_SLUG[slug].status


def test_answers_are_open():
    """A client that is generated from the document must accept fields that come later."""
    text = openapi.COMMITTED.read_text(encoding="utf-8")
    assert '"additionalProperties": false' not in text


def test_methods_of_the_job_are_in_the_contract():
    assert set(METHODS) <= set(Method)
