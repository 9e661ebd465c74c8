"""Limits of size, time and connections, other origins, and the metrics of requests."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from contextlib import suppress

import httpx
import pytest

from api.routes import health
from api.transport import probes
from tests.api.fixtures.bucket import Bucket, StoreSpec
from tests.api.fixtures.serving import serve, wait_until


@pytest.fixture(scope="module")
def limited_api(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bucket")
    Bucket.make(folder).publish([StoreSpec("1")])
    with serve(str(folder), cors_origins=("https://front.example",), request_seconds=1.0) as api:
        yield api


def test_a_large_body_is_refused(limited_api):
    answer = limited_api.client.request("GET", "/v1/stores/1/forecast", content=b"x" * 10_000_000)
    assert answer.status_code == 413
    assert answer.json()["type"] == "/problems/body-too-large"
    assert (
        limited_api.client.request("GET", "/v1/stores/1/forecast", content=b"x").status_code == 200
    )


def test_a_body_without_a_length_is_not_read(limited_api):
    def endless():
        for _ in range(200):
            yield b"x" * 65_536

    try:
        answer = limited_api.client.request("POST", "/v1/stores/1/forecast", content=endless())
        assert answer.status_code in (405, 413)
    except OSError:
        pytest.skip("the connection was closed on the sender")
    assert limited_api.get("/livez").status_code == 200


def test_large_headers_are_refused(limited_api):
    answer = limited_api.get("/v1/stores/1/history", headers={"X-Large": "x" * 20_000})
    assert answer.status_code == 431
    assert limited_api.get("/v1/stores/" + "a" * 20_000).status_code == 414


def test_an_answer_that_takes_too_long(limited_api, monkeypatch):
    async def wait(*_: object) -> None:
        await asyncio.sleep(5)

    monkeypatch.setattr(limited_api.service, "snapshot_as_of", wait)
    started = time.monotonic()
    answer = limited_api.get("/v1/stores/1/forecast?page_size=3")
    assert answer.status_code == 503
    assert answer.json()["type"] == "/problems/too-slow"
    assert time.monotonic() - started < 4


def test_other_origins(limited_api):
    for _ in range(2):
        answer = limited_api.get(
            "/v1/stores/1/forecast", headers={"Origin": "https://front.example"}
        )
        assert answer.headers["access-control-allow-origin"] == "https://front.example"
        assert "ETag" in answer.headers["access-control-expose-headers"]
        assert "Retry-After" in answer.headers["access-control-expose-headers"]
        refused = limited_api.get(
            "/v1/stores/1/forecast", headers={"Origin": "https://evil.example"}
        )
        assert "access-control-allow-origin" not in refused.headers
    preflight = limited_api.client.options(
        "/v1/stores/1/forecast",
        headers={
            "Origin": "https://front.example",
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization,if-none-match",
        },
    )
    assert preflight.status_code == 200


def test_requests_are_counted_by_route(limited_api):
    before = limited_api.metrics()
    for number in range(3):
        limited_api.get(f"/v1/stores/{number + 100}/forecast")
    limited_api.get("/v1/stores/1/forecast")
    limited_api.get("/nowhere")
    limited_api.client.request("PROPFIND", "/nowhere")
    after = limited_api.metrics()

    def increase(*labels: str) -> float:
        key = ("requests_total", *labels)
        return after.get(key, 0) - before.get(key, 0)

    assert increase("GET", "/v1/stores/{store_id}/forecast", "404") == 3
    assert increase("GET", "/v1/stores/{store_id}/forecast", "200") == 1
    assert increase("GET", "unmatched", "404") == 1
    assert after["requests_total", "other", "unmatched", "404"] >= 1
    assert not any("100" in label for key in after for label in key if isinstance(label, str))


@pytest.mark.parametrize(
    "sent_bytes",
    [
        b"",
        b"GET /v1/stores/1/forecast HTTP/1.1\r\nHost: x\r\n",
        b"POST /v1/stores HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx",
    ],
)
def test_an_unfinished_request_is_ended(limited_api, sent_bytes):
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", limited_api.port), timeout=10) as slow:
        slow.sendall(sent_bytes)
        assert limited_api.get("/v1/stores/1/forecast").status_code == 200
        while slow.recv(65_536):
            pass
    assert 0.9 < time.monotonic() - started < 5


def test_a_slow_request_within_the_time_is_served(limited_api):
    with socket.create_connection(("127.0.0.1", limited_api.port), timeout=10) as slow:
        for piece in (b"GET /livez HTTP/1.1\r\n", b"Host: x\r\nConnection: close\r\n", b"\r\n"):
            slow.sendall(piece)
            time.sleep(0.05)
        assert slow.recv(65_536).startswith(b"HTTP/1.1 200")


def test_endless_headers_are_cut_off(limited_api):
    with socket.create_connection(("127.0.0.1", limited_api.port), timeout=10) as slow:
        slow.sendall(b"GET /livez HTTP/1.1\r\n")
        with pytest.raises(OSError, match=r"reset|pipe"):  # noqa: PT012
            for _ in range(5000):
                slow.sendall(b"X-More: " + b"x" * 1000 + b"\r\n")
                time.sleep(0.001)


@pytest.mark.parametrize(
    "begin",
    [
        b"GET /",
        b"GET / HTTP/1.1\r\nX-Endless: ",
        b"GET / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
    ],
)
def test_what_never_ends_is_cut_off(limited_api, begin):
    """A URL, a header, a header's name, the extension of a chunk, a trailer."""
    piece, sent = b"x" * 10_000, 0
    address = ("127.0.0.1", limited_api.port)
    with socket.create_connection(address, timeout=10) as endless, suppress(OSError):
        endless.sendall(begin)
        for _ in range(3000):
            endless.sendall(piece)
            sent += len(piece)
    assert sent < 15_000_000
    assert limited_api.get("/livez").status_code == 200


@pytest.mark.parametrize(
    ("begin", "status"),
    [(b"GET /", b"414"), (b"GET / HTTP/1.1\r\nX-Long: ", b"431")],
)
def test_the_answer_names_what_is_too_long(limited_api, begin, status):
    with socket.create_connection(("127.0.0.1", limited_api.port), timeout=10) as caller:
        caller.sendall(begin + b"x" * 33_000)
        time.sleep(0.2)
        caller.sendall(b"x")
        received = caller.recv(65_536)
    assert received.split()[1] == status
    assert b"application/problem+json" in received


def test_a_caller_that_reads_nothing_is_not_read_without_end(limited_api):
    request = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    sent = 0
    with socket.create_connection(("127.0.0.1", limited_api.port), timeout=2) as greedy:
        with suppress(OSError):
            while sent < 50_000_000:
                sent += greedy.send(request * 1000)
        assert sent < 50_000_000
    assert limited_api.get("/livez").status_code == 200


def test_requests_that_wait_for_earlier_answers_are_answered_in_turn(limited_api):
    paths = ["/livez", "/v1/stores/1/forecast", "/nowhere"] * 5
    requests = [f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n" for path in paths]
    requests[-1] = requests[-1].replace("Host: x", "Host: x\r\nConnection: close")
    received = b""
    with socket.create_connection(("127.0.0.1", limited_api.port), timeout=10) as caller:
        caller.sendall("".join(requests).encode())
        while piece := caller.recv(65_536):
            received += piece
    statuses = re.findall(rb"HTTP/1\.1 (\d+)", received)
    assert statuses == [b"200", b"200", b"404"] * 5


def test_many_requests_in_one_read_are_all_answered(limited_api):
    """Also where one of them comes in two pieces, and where the caller ends before the answers."""
    requests = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 500
    received = b""
    with connect(limited_api) as caller:
        caller.sendall(requests + requests[:20])
        time.sleep(0.3)
        caller.sendall(requests[20:])
        while received.count(b"HTTP/1.1 200") < 1000:
            piece = caller.recv(65_536)
            assert piece
            received += piece
    assert received.count(b"HTTP/1.1 ") == 1000


def test_a_path_that_is_longer_than_any_is_not_read(limited_api):
    origin = "Origin: https://front.example"
    with connect(limited_api) as caller:
        path = "/v1/stores/" + "%25" * 1000
        caller.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{origin}\r\n\r\n".encode())
        received = caller.recv(65_536)
    assert received.split()[1] == b"414"
    assert b"access-control-allow-origin: https://front.example\r\n" in received.lower()
    assert limited_api.get("/v1/stores?q=" + "x" * 1100).status_code == 422


@pytest.mark.parametrize(
    "sent_bytes",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Folded: 1\r\n 2\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Space : 1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Zero: \0\r\n\r\n",
        b"GET /livez HTTP/1.1\nHost: a\n\n",
        b"GET /livez\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET example:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT example:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\nx\n0\n\n",
    ],
)
def test_what_is_no_http_gets_a_problem(limited_api, sent_bytes):
    with connect(limited_api) as caller:
        caller.sendall(sent_bytes)
        received = caller.recv(65_536)
    assert received.split()[1] == b"400"
    assert b"application/problem+json" in received
    assert b"x-content-type-options: nosniff" in received.lower()


def test_callers_that_wait_for_answers_occupy_connections(tmp_path, monkeypatch):
    Bucket.make(tmp_path).publish([StoreSpec("1")])
    with serve(str(tmp_path), max_connections=3, max_connections_per_peer=10) as api:

        async def wait(*_: object) -> None:
            await asyncio.sleep(1)

        monkeypatch.setattr(api.service, "snapshot_as_of", wait)
        connections = [connect(api) for _ in range(3)]
        for connection in connections:
            connection.sendall(b"GET /v1/stores/1/forecast HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.2)
        answer = api.get("/livez")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "/problems/busy"
        for connection in connections:
            assert connection.recv(65_536).startswith(b"HTTP/1.1")
            connection.close()
        wait_until(lambda: api.get("/livez").status_code == 200)


@pytest.mark.parametrize("limits", [{"max_connections": 3}, {"max_connections_per_peer": 3}])
@pytest.mark.parametrize("begin", [b"", b"GET /livez HTTP/1.1\r\nHost: x\r\n"])
def test_the_connection_that_sent_nothing_for_longest_makes_room(tmp_path, limits, begin):
    Bucket.make(tmp_path).publish([StoreSpec("1")])
    request = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    with serve(str(tmp_path), **limits) as api:
        silent = [connect(api) for _ in range(3)]
        for connection in silent:
            connection.sendall(begin)
        time.sleep(0.1)
        assert api.get("/livez").status_code == 200
        with suppress(ConnectionResetError):
            assert silent[0].recv(1) == b""
        for connection in silent[1:]:
            connection.sendall(request[len(begin) :])
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        for connection in silent:
            connection.close()


def test_a_trailer_is_no_header_of_its_request(limited_api):
    """A field behind the body cannot change how the request, or a cached reply to it, is read."""
    request = (
        b"GET /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\nX-Large: " + b"x" * 20_000 + b"\r\n\r\n"
    )
    with connect(limited_api) as caller:
        caller.sendall(request)
        assert caller.recv(65_536).split()[1] == b"404"


def test_the_port_of_the_probes_has_nothing_else(tmp_path):
    Bucket.make(tmp_path).publish([StoreSpec("1")])
    with serve(str(tmp_path), probe_port=0) as api:
        address = f"http://127.0.0.1:{api.probe_port}"
        for path in ("/livez", "/startupz", "/readyz", "/metrics"):
            assert httpx.get(address + path).status_code == 200
        for path in ("/", "/v1/stores/1/forecast", "/openapi.json"):
            answer = httpx.get(address + path)
            assert answer.status_code == 404
            assert answer.headers["content-type"] == "application/problem+json"


def test_every_probe_is_on_the_port_of_the_probes():
    assert {route.path for route in health.router.routes} == probes.PATHS


def connect(api) -> socket.socket:
    return socket.create_connection(("127.0.0.1", api.port), timeout=10)


@pytest.mark.parametrize("path", ["/livez", "/v1/stores", "/results/1.csv", "/"])
def test_a_caller_that_has_ended_his_side_gets_his_answers(limited_api, path):
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    for sent_bytes, answers in ((request, 1), (request * 3, 3), (request + b"GET /li", 1)):
        with connect(limited_api) as caller:
            caller.sendall(sent_bytes)
            caller.shutdown(socket.SHUT_WR)
            received = b"".join(iter(lambda: caller.recv(65_536), b""))
        assert received.count(b"HTTP/1.1 200 OK\r\n") == answers
