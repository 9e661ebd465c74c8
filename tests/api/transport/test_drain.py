"""No request is lost when the process is told to stop."""

from __future__ import annotations

import re
import signal
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

import httpx
import pytest

from tests.api.fixtures.processes import is_ready, publish_yesterday, start
from tests.api.fixtures.serving import wait_until

REQUEST = b"GET /v1/stores/1/forecast HTTP/1.1\r\nHost: x\r\n\r\n"
DRAIN_SECONDS = 2.0


@dataclass
class Answers:
    """What came back: `lost` are requests without a whole answer."""

    answered: int = 0
    closing: int = 0
    lost: list[str] = field(default_factory=list)


def read_answer(connection: socket.socket) -> tuple[bytes, bytes]:
    """The head and the body of one answer. Raises OSError if it does not come whole."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += piece(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head)[1])
    while len(body) < length:
        body += piece(connection)
    return head, body


def piece(connection: socket.socket) -> bytes:
    data = connection.recv(65_536)
    if not data:
        raise ConnectionError("closed without a whole answer")
    return data


def send_requests(port: int, answers: Answers, until: threading.Event, requests: int) -> None:
    """Send requests one after the other, `requests` of them at most on each connection.

    As behind a Service, new connections come until the nodes know that the process stops.
    """
    while not until.is_set():
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            for _ in range(requests):
                try:
                    connection.sendall(REQUEST)
                    head, _ = read_answer(connection)
                except OSError as error:
                    answers.lost.append(repr(error))
                    return
                assert head.startswith(b"HTTP/1.1 200")
                answers.answered += 1
                if b"connection: close" in head:
                    answers.closing += 1
                    break


@pytest.mark.parametrize("requests", [1, 1_000_000])
def test_requests_on_busy_and_on_new_connections_are_all_answered(tmp_path, requests):
    publish_yesterday(tmp_path)
    process, url = start(tmp_path, STORECAST_API_DRAIN_SECONDS=str(DRAIN_SECONDS))
    port = int(url.rpartition(":")[2])
    answers, until = Answers(), threading.Event()
    threads = [
        threading.Thread(target=send_requests, args=(port, answers, until, requests))
        for _ in range(8)
    ]
    try:
        wait_until(lambda: is_ready(url))
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 503)
        time.sleep(DRAIN_SECONDS / 2)
        until.set()
        for thread in threads:
            thread.join(20)
        assert process.wait(20) == 0
    finally:
        until.set()
        process.kill()
        process.communicate()
    assert answers.lost == []
    assert answers.answered > 100
    assert answers.closing >= len(threads)


def test_connections_end_only_after_what_was_sent_on_them_is_answered(tmp_path):
    """Idle, half a request, several requests at once, a body that is not complete."""
    publish_yesterday(tmp_path)
    process, url = start(tmp_path, STORECAST_API_DRAIN_SECONDS="1")
    port = int(url.rpartition(":")[2])
    try:
        wait_until(lambda: is_ready(url))
        idle, half, several, silent = (
            socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(4)
        )
        for connection in (idle, half, several):
            connection.sendall(REQUEST)
            assert b"connection: close" not in read_answer(connection)[0]
        half.sendall(REQUEST[:20])
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 503)
        several.sendall(REQUEST * 5)
        received = b""
        while data := several.recv(65_536):
            received += data
        assert received.count(b"HTTP/1.1 200") == 5
        assert received.count(b"connection: close") == 1
        idle.sendall(REQUEST)
        assert b"connection: close" in read_answer(idle)[0]
        assert silent.recv(1) == b""  # the drain is over: the connection ends without a reset
        half.sendall(REQUEST[20:])
        assert b"connection: close" in read_answer(half)[0]
        assert process.wait(20) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=10)
    finally:
        process.kill()
        process.communicate()
        for connection in (idle, half, several, silent):
            with suppress(OSError):
                connection.close()
