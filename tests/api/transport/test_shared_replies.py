"""Large and repeated answers: made once, sent in pieces, paid for each time."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator

import pytest

from api.main import create_app
from api.transport.middleware import ServiceMiddleware
from api.transport.reply_cache import CACHE_HINT
from api.workers import Workers
from tests.api.fixtures.bucket import NOON, Bucket, StoreSpec
from tests.api.fixtures.serving import RunningApi, serve, settings_for

ITEMS = tuple(f"item-{number:04d}" for number in range(600))
LARGE = "/results/large.csv"
DATE = re.compile(rb"date: [^\r]*\r\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("bucket")
    Bucket.make(path).publish([StoreSpec("large", items=ITEMS), StoreSpec("2")])
    return str(path)


@pytest.fixture(scope="module")
def shared_api(folder) -> Iterator[RunningApi]:
    with serve(folder) as api:
        yield api


def ask(api: RunningApi, request: str) -> bytes:
    """Everything that comes until the server closes the connection, without the date."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as connection:
        connection.sendall(request.encode())
        return DATE.sub(b"", b"".join(iter(lambda: connection.recv(65_536), b"")))


@pytest.mark.parametrize(
    ("form", "begin"),
    [
        ("GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
        ("HEAD {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
        ("GET {} HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
        (
            "GET {} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n",
        ),
        (
            "GET {} HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\nConnection: close\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\n",
        ),
        (
            (
                "GET {0} HTTP/1.1\r\nHost: x\r\n\r\n"
                "HEAD {0} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            ),
            b"HTTP/1.1 200 OK\r\n",
        ),
    ],
)
@pytest.mark.parametrize("path", ["/v1/stores/2/forecast", LARGE, "/"])
def test_a_cached_answer_is_that_of_the_routes_to_the_byte(folder, form, begin, path):
    with serve(folder, memory_bytes=0) as api:
        made = ask(api, form.format(path))
    with serve(folder) as api:
        answers = {ask(api, form.format(path)) for _ in range(3)}
    assert answers == {made}
    assert made.startswith(begin)


def test_a_large_answer_comes_whole_to_a_caller_that_reads_slowly(shared_api):
    whole = shared_api.get(LARGE).content
    assert len(whole) > 500_000
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", shared_api.port))
        connection.sendall(f"GET {LARGE} HTTP/1.0\r\n\r\n".encode())
        received = b"".join(iter(lambda: connection.recv(8192), b""))
    assert received.partition(b"\r\n\r\n")[2] == whole


def test_a_large_answer_costs_as_much_from_the_cache(folder):
    with serve(folder, requests_per_second=1e-6, burst=60) as api:
        answers = [api.get(LARGE, headers={"Accept-Encoding": "identity"}) for _ in range(5)]
        cost = 1 + len(answers[0].content) // 32_768
        assert [answer.status_code for answer in answers].count(200) == -(-60 // cost)
        assert answers[-1].status_code == 429


def test_heads_and_304s_of_large_answers_cost_little(folder):
    with serve(folder, requests_per_second=1e-6, burst=60) as api:
        plain = {"Accept-Encoding": "identity"}
        etag = api.get(LARGE, headers=plain).headers["etag"]
        for _ in range(10):
            assert api.client.head(LARGE, headers=plain).status_code == 200
            same = {**plain, "If-None-Match": etag}
            assert api.get(LARGE, headers=same).status_code == 304


class Route:
    """A route that waits until it may answer, and counts how often it was asked."""

    def __init__(self, *, is_cacheable: bool) -> None:
        self.asked = 0
        self.may_answer = asyncio.Event()
        self._is_cacheable = is_cacheable

    async def __call__(self, scope, _, send):
        self.asked += 1
        await self.may_answer.wait()
        if self._is_cacheable:
            scope[CACHE_HINT].until = NOON.replace(year=2100)
        headers = [(b"etag", b'"a"'), (b"content-length", b"4")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"body"})


@pytest.mark.parametrize(("is_cacheable", "asked"), [(True, 1), (False, 6)])
def test_equal_requests_of_a_caller_at_once_are_answered_once(folder, is_cacheable, asked):
    async def answers() -> tuple[list[bytes], int]:
        route = Route(is_cacheable=is_cacheable)
        service = create_app(settings_for(folder), lambda: NOON).service
        middleware = ServiceMiddleware(route, service)  # type: ignore[arg-type]
        sent: list[bytes] = []

        async def send(message):
            sent.append(message.get("body", b""))

        def request(path: bytes):
            scope = {
                "type": "http",
                "method": "GET",
                "path": path.decode(),
                "raw_path": path,
                "query_string": b"",
                "headers": [],
            }
            return asyncio.create_task(middleware(scope, None, send))  # type: ignore[arg-type]

        tasks = [request(b"/v1/x") for _ in range(6)]
        other = request(b"/v1/y")
        for _ in range(9):
            await asyncio.sleep(0)
        assert route.asked == 2
        tasks[3].cancel()
        await asyncio.sleep(0)
        route.may_answer.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        await other
        return [body for body in sent if body], route.asked - 1

    # One of the six is cancelled while it waits for the answer to the first.
    bodies, count = asyncio.run(answers())
    assert bodies == [b"body"] * 6
    assert count == asked - (not is_cacheable)


def test_requests_of_a_caller_whose_work_waits_are_refused_before_the_routes(folder):
    with serve(folder) as api:
        api.service.workers = Workers(max_waiting=0)
        answer = api.get("/v1/stores/2/forecast")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert api.get("/livez").status_code == 200


def test_a_caller_over_the_limit_gets_a_page_for_a_page(folder):
    with serve(folder, requests_per_second=1e-6, burst=1) as api:
        german = {"Accept-Language": "de"}
        assert api.get("/", headers=german).status_code == 200
        for query in ("", "?page=2", "?nonsense=1"):
            answer = api.get(f"/{query}", headers=german)
            assert answer.status_code == 429
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "Zu viele Anfragen" in answer.text
        assert api.get("/v1/stores").json()["type"] == "/problems/too-many-requests"
