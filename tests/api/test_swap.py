"""Under load: a swap that nobody notices, and a stop that drops nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.api.bucket import Bucket, StoreSpec
from tests.api.serving import serve, wait_until

STORES = 3000


def specs(base: float) -> list[StoreSpec]:
    return [StoreSpec(f"{number:05d}", base=base) for number in range(STORES)]


def test_a_swap_under_load(tmp_path):
    """No failed request, no mixed answer: all numbers are of the release that is named."""
    bucket = Bucket.make(tmp_path)
    bucket.publish(specs(0), name="r0", parts_per_run=4)
    later = [
        bucket.publish(specs(number * 1000), name=f"r{number}", parts_per_run=4, point=False)
        for number in (1, 2)
    ]
    seen: set[str] = set()

    async def ask(client: httpx.AsyncClient, worker: int) -> None:
        number = worker
        while len(seen) < 3:
            number = (number + 7) % STORES
            answer = await client.get(f"/v1/stores?page_size=2&outcome=ok&x={number % 50}")
            assert answer.status_code == 200
            body = answer.json()
            named = float(body["release"].removeprefix("r"))
            for store in body["stores"]:
                assert store["release"] == body["release"]
                assert store["days"][0]["predicted_sales"] == named * 1000 + 1
            seen.add(body["release"])

    async def publish() -> None:
        for entry in later:
            await asyncio.sleep(0.7)
            bucket.point(entry)

    async def load(port: int) -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            asking = [ask(client, worker) for worker in range(4)]
            await asyncio.wait_for(asyncio.gather(publish(), *asking), 30)

    with serve(str(tmp_path), refresh_seconds=0.1) as served:
        asyncio.run(load(served.port))
    assert seen == {"r0", "r1", "r2"}


def start(folder: Path, **variables: str) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "STORECAST_API_BUCKET": str(folder),
        "STORECAST_API_PORT": str(port),
        **variables,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "api"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    return process, f"http://127.0.0.1:{port}"


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_sigterm_is_unready_first_and_drops_nothing(tmp_path):
    Bucket.make(tmp_path).publish([StoreSpec("1")])
    process, url = start(tmp_path, STORECAST_API_DRAIN_SECONDS="1.5")
    try:
        wait_until(lambda: is_ready(url))
        with httpx.Client(base_url=url) as client:
            assert client.get("/v1/stores/1/forecast").status_code == 200
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: client.get("/readyz").status_code == 503)
            until = time.monotonic() + 0.7
            while time.monotonic() < until:  # whoever has not noticed yet is still served
                assert client.get("/v1/stores/1/forecast").status_code == 200
                assert httpx.get(f"{url}/livez").status_code == 200
        assert process.wait(20) == 0
    finally:
        process.kill()
        _, said = process.communicate()
    lines = [json.loads(line) for line in said.splitlines()]
    assert "unready" in next(line for line in lines if line["logger"] == "api.server")["message"]


def test_what_it_does_not_start_with(tmp_path):
    for variables, says in (
        ({"STORECAST_API_BUCKET": str(tmp_path / "none")}, "no such directory"),
        ({"STORECAST_API_HOST": "0.0.0.0"}, "sign-in is off"),  # noqa: S104
        ({"STORECAST_API_PORT": "x"}, "STORECAST_API_PORT"),
    ):
        process, _ = start(tmp_path, **variables)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 2
        assert says in said.decode()
        assert len(said.decode().strip().splitlines()) == 1
