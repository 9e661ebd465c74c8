"""What holds for every address: HEAD, origins, headers, no redirect."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from api.routes.context import request_context
from tests.api.fixtures.bucket import STORES, Bucket
from tests.api.fixtures.serving import RunningApi, fail, serve

ORIGIN = "https://front.example"
ADDRESSES = (
    "/", "/?store_id=1", "/?store_id=99", "/page.css", "/openapi.json", "/problems",
    "/problems/no-data", "/problems/none", "/v1/stores", "/v1/stores/1/forecast", "/results/1.csv",
    "/v1/stores/99/forecast", "/v1/me", "/v1/releases", "/livez", "/metrics", "/nowhere",
    "/v1/stores/1/forecast?page_size=x",
)  # fmt: skip


@pytest.fixture(scope="module")
def http_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    folder = tmp_path_factory.mktemp("bucket")
    Bucket.make(folder).publish(STORES)
    with serve(str(folder), cors_origins=(ORIGIN,)) as api:
        yield api


def stable(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name != "date"}


@pytest.mark.parametrize("address", ADDRESSES)
def test_head_is_get_without_a_body(http_api, address):
    for _ in range(2):  # the second one may come from the cache of replies
        head, get = http_api.client.head(address), http_api.get(address)
        assert (head.status_code, head.content) == (get.status_code, b"")
        if address != "/metrics":
            assert stable(head) == stable(get)


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_answer_forbids_to_guess_its_type(http_api, address):
    assert http_api.get(address).headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_answer_to_an_allowed_origin_says_so(http_api, address):
    for _ in range(2):
        allowed = http_api.get(address, headers={"Origin": ORIGIN})
        assert allowed.headers["access-control-allow-origin"] == ORIGIN
        refused = http_api.get(address, headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in refused.headers
        assert "access-control-allow-origin" not in http_api.get(address).headers


def test_problems_before_the_routes_are_readable_by_other_origins(http_api, monkeypatch):
    origin = {"Origin": ORIGIN}
    for answer, status in (
        (http_api.get("/nowhere", headers={**origin, "X-Long": "x" * 20_000}), 431),
        (http_api.get(f"/?x={'x' * 17_000}", headers=origin), 414),
        (http_api.client.request("GET", "/nowhere", headers=origin, content=b"x" * 70_000), 413),
        (http_api.client.post("/v1/stores", headers=origin), 405),
    ):
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["allow"] == "GET, HEAD"
    monkeypatch.setitem(http_api.app.app.dependency_overrides, request_context, fail)
    failed = http_api.get("/v1/me?", headers={**origin, "Accept-Encoding": "x"})
    assert failed.status_code == 500
    assert failed.headers["access-control-allow-origin"] == ORIGIN


@pytest.mark.parametrize("address", ["/v1/stores/", "/problems/", "//evil.example/", "/v1//stores"])
def test_nothing_is_redirected(http_api, address):
    answer = http_api.get(http_api.url + address, headers={"Host": "evil.example"})
    assert answer.status_code == 404
    assert "location" not in answer.headers
