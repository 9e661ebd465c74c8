"""Sizes and times that no request may exceed, and who may ask from another origin."""

from __future__ import annotations

import asyncio
import json
import socket
import time

import pytest

from tests.api.bucket import Bucket, StoreSpec
from tests.api.serving import serve, wait_until
from tests.api.test_running import metrics_of


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bucket")
    Bucket.make(folder).publish([StoreSpec("1")])
    with serve(
        str(folder), cors_origins=("https://front.example",), request_seconds=0.5
    ) as running:
        yield running


def test_a_body_that_no_request_needs(served):
    answer = served.client.request("GET", "/v1/stores/1/forecast", content=b"x" * 10_000_000)
    assert answer.status_code == 413
    assert answer.json()["type"] == "/problems/body-too-large"
    assert served.client.request("GET", "/v1/stores/1/forecast", content=b"x").status_code == 200


def test_a_body_without_a_length_is_not_read(served):
    def endless():
        for _ in range(200):
            yield b"x" * 65_536

    try:
        answer = served.client.request("POST", "/v1/stores/1/forecast", content=endless())
        assert answer.status_code in (405, 413)
    except OSError:
        pytest.skip("the connection was closed on the sender")
    assert served.get("/livez").status_code == 200


def test_headers_that_no_request_needs(served):
    answer = served.get("/v1/stores/1/history", headers={"X-Large": "x" * 20_000})
    assert answer.status_code == 431
    assert served.get("/v1/stores/" + "a" * 20_000).status_code == 431


def test_an_answer_that_takes_too_long(served, monkeypatch):
    async def wait(*_: object) -> None:
        await asyncio.sleep(5)

    monkeypatch.setattr(served.service, "as_of", wait)
    started = time.monotonic()
    answer = served.get("/v1/stores/1/forecast?page_size=3")
    assert answer.status_code == 503
    assert answer.json()["type"] == "/problems/too-slow"
    assert time.monotonic() - started < 4


def test_other_origins(served):
    for _ in range(2):
        answer = served.get("/v1/stores/1/forecast", headers={"Origin": "https://front.example"})
        assert answer.headers["access-control-allow-origin"] == "https://front.example"
        assert "ETag" in answer.headers["access-control-expose-headers"]
        assert "Retry-After" in answer.headers["access-control-expose-headers"]
        other = served.get("/v1/stores/1/forecast", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
    preflight = served.client.options(
        "/v1/stores/1/forecast",
        headers={
            "Origin": "https://front.example",
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization,if-none-match",
        },
    )
    assert preflight.status_code == 200


def test_requests_are_counted_by_template(served):
    before = metrics_of(served)
    for number in range(3):
        served.get(f"/v1/stores/{number + 100}/forecast")
    served.get("/v1/stores/1/forecast")
    served.get("/nowhere")
    served.client.request("PROPFIND", "/nowhere")
    after = metrics_of(served)

    def grown(*labels: str) -> float:
        key = ("requests_total", *labels)
        return after.get(key, 0) - before.get(key, 0)

    assert grown("GET", "/v1/stores/{store_id}/forecast", "404") == 3
    assert grown("GET", "/v1/stores/{store_id}/forecast", "200") == 1
    assert grown("GET", "unmatched", "404") == 1
    assert after["requests_total", "other", "unmatched", "404"] >= 1
    assert not any("100" in label for key in after for label in key if isinstance(label, str))


def test_the_access_log_tells_neither_tokens_nor_queries(tmp_path, capfd):
    Bucket.make(tmp_path).publish([StoreSpec("1")])
    with serve(str(tmp_path), access_log=True) as served:
        for _ in range(2):
            served.get('/v1/stores/1/forecast?x="secret"', headers={"Authorization": "Bearer s3"})
        served.get("/a%22%0ab")
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(line["route"], line["status"]) for line in lines] == [
        ("/v1/stores/{store_id}/forecast", 200),
        ("/v1/stores/{store_id}/forecast", 200),
        ("unmatched", 404),
    ]
    assert lines[2]["path"] == '/a"\nb'
    assert not any("secret" in str(line) or "s3" in str(line) for line in lines)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /v1/stores/1/forecast HTTP/1.1\r\nHost: x\r\n",
        b"POST /v1/stores HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx",
    ],
)
def test_a_client_that_never_finishes_its_request_is_let_go(served, sent):
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as slow:
        slow.sendall(sent)
        assert served.get("/v1/stores/1/forecast").status_code == 200
        while slow.recv(65_536):
            pass
    assert 0.4 < time.monotonic() - started < 5


def test_a_slow_but_steady_client_is_served(served):
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as slow:
        for piece in (b"GET /livez HTTP/1.1\r\n", b"Host: x\r\nConnection: close\r\n", b"\r\n"):
            slow.sendall(piece)
            time.sleep(0.05)
        assert slow.recv(65_536).startswith(b"HTTP/1.1 200")


def test_an_endless_head_is_cut_off(served):
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as slow:
        slow.sendall(b"GET /livez HTTP/1.1\r\n")
        with pytest.raises(OSError, match=r"reset|pipe"):  # noqa: PT012
            for _ in range(1000):
                slow.sendall(b"X-More: " + b"x" * 1000 + b"\r\n")
                time.sleep(0.001)


def test_connections_are_bounded(tmp_path):
    Bucket.make(tmp_path).publish([StoreSpec("1")])
    with serve(str(tmp_path), max_connections=3) as served:
        held = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(3)]
        time.sleep(0.1)
        answer = served.get("/livez")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "/problems/busy"
        for each in held:
            each.close()
        wait_until(lambda: served.get("/livez").status_code == 200)
