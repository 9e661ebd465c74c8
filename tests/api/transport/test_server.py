"""The start and the stop of the process `python -m api`."""

from __future__ import annotations

import json
import signal
import time

import httpx

from tests.api.fixtures.processes import is_ready, publish_yesterday, start
from tests.api.fixtures.serving import wait_until


def test_after_sigterm_the_service_is_unready_and_drops_no_request(tmp_path):
    publish_yesterday(tmp_path)
    process, url = start(tmp_path, STORECAST_API_DRAIN_SECONDS="1.5")
    try:
        wait_until(lambda: is_ready(url))
        with httpx.Client(base_url=url) as client:
            assert client.get("/v1/stores/1/forecast").status_code == 200
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: client.get("/readyz").status_code == 503)
            until = time.monotonic() + 0.7
            while time.monotonic() < until:  # requests are still answered
                assert client.get("/v1/stores/1/forecast").status_code == 200
                assert httpx.get(f"{url}/livez").status_code == 200
        assert process.wait(20) == 0
    finally:
        process.kill()
        _, errors = process.communicate()
    lines = [json.loads(line) for line in errors.splitlines()]
    assert "unready" in next(line for line in lines if line["logger"] == "api.server")["message"]


def test_invalid_settings_end_the_start_with_one_line(tmp_path):
    for variables, message in (
        ({"STORECAST_API_BUCKET": str(tmp_path / "none")}, "no such directory"),
        ({"STORECAST_API_HOST": "0.0.0.0"}, "sign-in is off"),  # noqa: S104
        ({"STORECAST_API_PORT": "x"}, "STORECAST_API_PORT"),
    ):
        process, _ = start(tmp_path, **variables)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 2
        assert message in errors.decode()
        assert len(errors.decode().strip().splitlines()) == 1
