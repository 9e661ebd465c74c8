"""Each operation documents exactly the problems that its route gives.

Requests provoke every problem of every operation. The answers are compared with what the document
lists: no problem is missing there, and none is listed that nothing provokes.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from api import openapi
from api.routes.context import request_context
from api.routes.page_tokens import PageToken
from api.settings import Issuer
from ray_job.bucket import keys
from tests.api.fixtures.bucket import AS_OF, STORES, Bucket, StoreSpec
from tests.api.fixtures.records import DAY
from tests.api.fixtures.serving import RunningApi, fail, serve
from tests.api.fixtures.tokens import (
    AUDIENCE,
    ISSUER,
    bearer,
    key_set,
    serve_keys,
    token,
    write_grants,
)

OPERATIONS = {
    "getForecast": "/v1/stores/1/forecast",
    "getResults": "/results/1",
    "getResultsCsv": "/results/1.csv",
    "listStores": "/v1/stores",
    "batchGetForecasts": "/v1/forecasts:batchGet?store_id=1",
    "getHistory": "/v1/stores/1/history",
    "getMe": "/v1/me",
    "getCurrentRun": "/v1/runs/current",
    "getRun": "/v1/runs/2026-11-22-x",
    "listReleases": "/v1/releases",
}
FORECASTS = ("/v1/stores/{}/forecast", "/results/{}", "/results/{}.csv")
OF_FORECASTS = ("getForecast", "getResults", "getResultsCsv")
GOOD, CORRUPT, UNREADABLE, GONE = (AS_OF - back * DAY for back in range(4))
"""As-ofs, by what became of their releases."""


class Seen:
    """The problems that the answers to each operation gave."""

    def __init__(self) -> None:
        self.slugs: dict[str, set[str]] = defaultdict(set)

    def add(self, operation: str, answer: httpx.Response) -> None:
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"
        problem = answer.json()
        assert problem["status"] == answer.status_code
        self.slugs[operation].add(problem["type"].removeprefix("/problems/"))

    def everywhere(self, api: RunningApi, slug: str, **request: object) -> None:
        """Send a request to each operation, each on a connection of its own."""

        def send(url: str) -> httpx.Response:
            return httpx.request("GET", f"{api.url}{url}", **request, timeout=20)  # type: ignore[arg-type]

        with ThreadPoolExecutor(len(OPERATIONS)) as pool:
            answers = list(pool.map(send, OPERATIONS.values()))
        for operation, answer in zip(OPERATIONS, answers, strict=True):
            assert answer.json()["type"] == f"/problems/{slug}"
            self.add(operation, answer)


def make_unreadable(folder: Path, key: str) -> None:
    """Put a link to a name that is too long in place of an object: it exists and cannot be read."""
    (folder / key).unlink(missing_ok=True)
    (folder / key).parent.mkdir(parents=True, exist_ok=True)
    (folder / key).symlink_to("x" * 300)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bucket with every kind of store, and with damaged releases and scores of earlier nights."""
    bucket = Bucket.make(tmp_path)
    for as_of in (GONE, UNREADABLE, CORRUPT):
        bucket.publish([StoreSpec("1", as_of=as_of, data_through=as_of)], as_of=as_of)
    (tmp_path / keys.release(f"{GONE}-a")).unlink()
    make_unreadable(tmp_path, keys.release(f"{UNREADABLE}-a"))
    (tmp_path / keys.release(f"{CORRUPT}-a")).write_bytes(b"no release")
    bucket.publish(STORES)
    corrupt, unreadable = (keys.accuracy(day, "r") for day in (AS_OF, AS_OF - DAY))
    bucket.storage.create(corrupt, b"no scores")
    make_unreadable(tmp_path, unreadable)
    bucket.change(accuracy={AS_OF: corrupt, AS_OF - DAY: unreadable})
    write_grants(
        bucket.storage,
        {"subject": "anna", "stores": ["1"]},
        {"subject": "olga", "stores": "*", "role": "operator"},
    )
    return tmp_path


def forecast_requests() -> Iterator[tuple[str, str]]:
    for operation, address in zip(OF_FORECASTS, FORECASTS, strict=True):
        for store_id in ("9", "4", "5", "6", "a.b"):
            yield operation, address.format(store_id)
        for as_of in ("2000-01-01", CORRUPT, UNREADABLE, GONE):
            yield operation, f"{address.format('1')}?as_of={as_of}"
    yield "getForecast", "/v1/stores/2/forecast?item_id=z"
    yield "getForecast", "/v1/stores/1/forecast?target_date=2000-01-01"
    yield "getForecast", "/v1/stores/3/forecast?max_age_days=0"


def other_requests() -> Iterator[tuple[str, str]]:
    for as_of in ("2000-01-01", CORRUPT, UNREADABLE, GONE):
        yield "batchGetForecasts", f"{OPERATIONS['batchGetForecasts']}&as_of={as_of}"
    yield "batchGetForecasts", "/v1/forecasts:batchGet?store_id=a.b"
    for as_of in (CORRUPT, UNREADABLE, GONE):
        page_token = PageToken("stores//", f"{as_of}-a", 1).encode()
        yield "listStores", f"/v1/stores?page_token={page_token}"
    yield "listStores", "/v1/stores?outcome=great"
    yield "getHistory", "/v1/stores/1/history?days=1"  # corrupt scores
    yield "getHistory", "/v1/stores/1/history?days=2"  # scores that cannot be read come first
    yield "getHistory", "/v1/stores/9/history"
    yield "getHistory", "/v1/stores/1/history?days=0"
    yield "listReleases", f"/v1/releases?page_token={PageToken('releases', 'x', 1).encode()}"
    yield "listReleases", "/v1/releases?page_size=0"
    yield "getRun", "/v1/runs/2026-11-22-none"
    yield "getRun", "/v1/runs/2026-11-22-corrupt"
    yield "getRun", "/v1/runs/2026-11-22-unreadable"
    yield "getRun", "/v1/runs/_"


def issuer_of(url: str) -> Issuer:
    return Issuer(issuer=ISSUER, jwks=url, audience=AUDIENCE)


def see_problems_of_answers(seen: Seen, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of single operations, and those of the size and the caller of a request."""
    operator, manager = bearer(token("olga")), bearer(token("anna"))
    run_folder = folder / keys.receipt(AS_OF, "x")
    current = folder / keys.receipt(AS_OF, f"run-{AS_OF}-a")
    run_folder.parent.mkdir(parents=True)
    (folder / keys.receipt(AS_OF, "2026-11-22-corrupt")).write_bytes(b"no receipt")
    make_unreadable(folder, keys.receipt(AS_OF, "2026-11-22-unreadable"))
    with (
        serve_keys(key_set("k1")) as key_server,
        serve(str(folder), issuers=(key_server.issuer(),), memory_bytes=0) as api,
    ):
        for operation, url in (*forecast_requests(), *other_requests()):
            seen.add(operation, api.get(url, headers=operator))
        image = {**operator, "Accept": "image/png"}
        for operation in (
            "getForecast", "getResults", "listStores", "batchGetForecasts", "getHistory",
        ):  # fmt: skip
            seen.add(operation, api.get(OPERATIONS[operation], headers=image))
        for operation, url in (
            *zip(OF_FORECASTS, (address.format("2") for address in FORECASTS), strict=True),
            ("getHistory", "/v1/stores/2/history"),
            *((name, OPERATIONS[name]) for name in ("getCurrentRun", "getRun", "listReleases")),
        ):
            seen.add(operation, api.get(url, headers=manager))
        seen.add("getCurrentRun", api.get("/v1/runs/current", headers=operator))  # no receipt
        current.write_bytes(b"no receipt")
        seen.add("getCurrentRun", api.get("/v1/runs/current", headers=operator))
        make_unreadable(folder, keys.receipt(AS_OF, f"run-{AS_OF}-a"))
        seen.add("getCurrentRun", api.get("/v1/runs/current", headers=operator))
        seen.everywhere(api, "sign-in")
        seen.everywhere(api, "headers-too-large", headers={"X-Long": "x" * 20_000})
        seen.everywhere(api, "url-too-long", params={"x": "x" * 20_000})
        seen.everywhere(api, "body-too-large", content=b"x" * 70_000)
        monkeypatch.setitem(api.app.app.dependency_overrides, request_context, fail)
        seen.everywhere(api, "unexpected", headers=operator)


def see_problems_of_the_service(
    seen: Seen, folder: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = bearer(token("olga"))
    with serve(str(empty)) as api:
        for operation, url in OPERATIONS.items():
            if api.get(url).status_code == 503:
                seen.add(operation, api.get(url))
    with serve(str(folder), requests_per_second=1e-6, burst=1) as api:
        api.get("/v1/me")
        seen.everywhere(api, "too-many-requests")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with serve(str(folder), issuers=(issuer_of(f"http://127.0.0.1:{port}/"),)) as api:
        seen.everywhere(api, "sign-in-unavailable", headers=operator)
    started = threading.Event()

    async def wait(*_: object) -> None:
        started.set()
        await asyncio.sleep(20)

    def sign_in_slowly(api: RunningApi) -> None:
        """The middleware knows no caller, and the routes wait for one."""
        monkeypatch.setattr(api.service.sign_in, "remembered", lambda *_: None)
        monkeypatch.setattr(api.service.sign_in, "caller", wait)

    with serve(str(folder), max_connections_per_peer=20, request_seconds=1.0) as api:
        sign_in_slowly(api)
        seen.everywhere(api, "too-slow")
    started.clear()
    with (
        serve(str(folder), max_connections_per_peer=1, request_seconds=3.0) as api,
        ThreadPoolExecutor(1) as pool,
    ):
        sign_in_slowly(api)
        waiting = pool.submit(api.get, "/v1/me")
        assert started.wait(10)
        seen.everywhere(api, "busy")
        waiting.result()


def test_each_operation_lists_exactly_its_problems(folder, tmp_path_factory, monkeypatch):
    seen = Seen()
    see_problems_of_answers(seen, folder, monkeypatch)
    see_problems_of_the_service(seen, folder, tmp_path_factory.mktemp("empty"), monkeypatch)
    document = json.loads(openapi.COMMITTED.read_text(encoding="utf-8"))
    documented = {
        operation["get"]["operationId"]: {
            slug
            for response in operation["get"]["responses"].values()
            for content in response.get("content", {}).values()
            for slug in content.get("examples", {})
        }
        for operation in document["paths"].values()
    }
    assert seen.slugs == documented
