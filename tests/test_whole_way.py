"""From `storecast demo` to the API's answer, with the commands that a new user runs."""

import json
import os
import socket
import subprocess
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from ray_job.bucket.storage import open_bucket
from tests.support.processes import python_command
from tests.support.shop import generations

EXAMPLE_STORE = "s002"
pytestmark = pytest.mark.timeout(600)


def storecast(*arguments):
    """Run a command; fails with its standard error if it fails."""
    process = subprocess.run(
        python_command("ray_job", *arguments), capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    return process


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    return str(tmp_path_factory.mktemp("demo") / "data")


@pytest.fixture(scope="module")
def demo(bucket):
    return storecast("demo", "--bucket", bucket)


@pytest.fixture(scope="module")
def explained(demo, bucket):
    return json.loads(storecast("explain", EXAMPLE_STORE, "--bucket", bucket, "--json").stdout)


def test_it_ends_with_a_forecast_and_the_commands_to_see_more(demo):
    *_, forecast = demo.stdout.partition(f"Store {EXAMPLE_STORE}: sales of the next days")
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    assert f"made from sales through {yesterday}" in forecast
    for ahead in range(1, 8):
        assert f"{yesterday + timedelta(days=ahead):%a %-d %b %Y}" in forecast
    for command in ("storecast explain", "storecast plan", "storecast accuracy", "make serve"):
        assert command in forecast


def test_it_leaves_every_kind_of_object(demo, bucket):
    root = Path(bucket)
    keys = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    for prefix in (
        "raw_data/weather/",
        "batch_data/store_id=s001/",
        "batch_data/_delta_log/",
        "context/stores/",
        "models/current.json",
        "results/parts/as_of=",
        "results/receipts/as_of=",
        "results/releases/",
        "results/accuracy/target_date=",
        "results/current.json",
    ):
        assert any(key.startswith(prefix) for key in keys), prefix


def test_the_run_of_a_published_night_writes_nothing(demo, bucket):
    storage = open_bucket(bucket)
    before = generations(storage)
    again = json.loads(storecast("run", "--bucket", bucket, "--json").stdout)
    assert again["published"]
    assert generations(storage) == before


def test_explain_names_where_the_numbers_come_from(explained):
    assert explained["outcome"] == "ok"
    assert explained["data_age_days"] == 0
    assert len(explained["days"]) == 7
    assert explained["parts"][0]["part"].startswith("results/parts/as_of=")
    assert explained["input_files"]


def test_accuracy_knows_the_nights_before(demo, bucket):
    summary = json.loads(storecast("accuracy", "--bucket", bucket, "--json").stdout)
    assert summary["days"] > 7
    assert summary["wape"] < summary["naive_wape"]


def test_the_api_answers_with_the_same_numbers(explained, bucket):
    with socket.socket() as free_socket:
        free_socket.bind(("127.0.0.1", 0))
        port = free_socket.getsockname()[1]
    server = subprocess.Popen(
        python_command("api"),
        env=os.environ | {"STORECAST_API_BUCKET": bucket, "STORECAST_API_PORT": str(port)},
        stdout=subprocess.DEVNULL,
    )
    try:
        answer = get_json(f"http://127.0.0.1:{port}/results/{EXAMPLE_STORE}")
    finally:
        server.terminate()
        server.wait()
    assert answer["as_of"] == explained["as_of"]
    assert not answer["stale"]
    answered = [(day["target_date"], day["predicted_sales"]) for day in answer["days"]]
    today = datetime.now(UTC).date()
    assert answered == [
        (day["target_dates"], day["predicted"])
        for day in explained["days"]
        if date.fromisoformat(day["target_dates"]) >= today
    ]


def get_json(url):
    """The answer as JSON. It tries for a minute, since the server needs some time to start."""
    until = time.monotonic() + 60
    while True:
        try:
            return httpx.get(url).raise_for_status().json()
        except httpx.HTTPError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
