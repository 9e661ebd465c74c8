"""Answers through our protocol: one write for head and body, and nothing that waits too long."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn

from api.transport.connections import Connections
from api.transport.protocol import protocol_for
from tests.api.fixtures.serving import settings_for, wait_until
from tests.fake_gcs.server import listen

LARGE = b"x" * 300_000


async def app(scope, receive, send):
    """Answers with the pieces that the path names. `/body` waits for the request's body first."""
    if scope["path"] == "/body":
        message = await receive()
        assert message["body"] == b"sent"
    pieces = {"/none": [b""], "/large": [LARGE], "/pieces": [b"one", LARGE, b"two"]}.get(
        scope["path"], [b"small"]
    )
    length = str(sum(map(len, pieces))).encode()
    headers = [(b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number, piece in enumerate(pieces, 1):
        more = number < len(pieces)
        await send({"type": "http.response.body", "body": piece, "more_body": more})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    settings = settings_for("unused")
    with listen() as listening:
        config = uvicorn.Config(
            app, lifespan="off", log_config=None, http=protocol_for(settings, Connections(9, 9))
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(
            target=lambda: asyncio.run(server.serve(sockets=[listening])), daemon=True
        )
        thread.start()
        wait_until(lambda: server.started)
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join(30)


def ask(port: int, request: bytes) -> bytes:
    """Everything that comes until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def request(path: str, method: str = "GET", version: str = "1.1", close: bool = False) -> bytes:
    last = "Connection: close\r\n" if close else ""
    return f"{method} {path} HTTP/{version}\r\nHost: x\r\n{last}\r\n".encode()


@pytest.mark.parametrize(
    ("path", "body"),
    [("/", b"small"), ("/none", b""), ("/large", LARGE), ("/pieces", b"one" + LARGE + b"two")],
)
@pytest.mark.parametrize(("method", "version"), [("GET", "1.1"), ("GET", "1.0"), ("HEAD", "1.1")])
def test_whole_answers(port, path, body, method, version):
    answer = ask(port, request(path, method, version, close=version == "1.1"))
    head, _, got = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert f"content-length: {len(body)}".encode() in head
    assert got == (b"" if method == "HEAD" else body)


def test_answers_on_one_connection_come_in_turn(port):
    paths = ["/", "/large", "/none", "/pieces", "/"]
    heads = [request(path, method) for path in paths for method in ("HEAD", "GET")]
    answers = ask(port, b"".join([*heads, request("/none", close=True)]))
    assert answers.count(b"HTTP/1.1 200") == len(heads) + 1
    assert answers.count(b"small") == 2
    assert answers.count(b"x") == 2 * len(LARGE)


def test_the_caller_who_waits_for_100_continue_gets_it_at_once(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(
            b"POST /body HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"sent")
        assert connection.recv(1000).endswith(b"small")
