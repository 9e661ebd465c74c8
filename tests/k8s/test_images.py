"""The images that `make image` builds, started as the manifests start them: read-only, not as root."""

import json
import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
import yaml

from ray_job.bucket import receipts
from ray_job.bucket.directory import DirectoryStorage
from ray_job.bucket.freshness import Schedule
from tests.api.bucket import Bucket, StoreSpec
from tests.api.tokens import AUDIENCE, ISSUER, key_set, token
from tests.k8s.manifests import ROOT, of_kind

LARGEST_API = 400_000_000
USER = "10001:10001"
LISTING = (
    "import hashlib, pathlib, {package}; root = pathlib.Path({package}.__file__).parent;"
    "print(*sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob('*.py')))"
)


def podman(*arguments, check=True, timeout=250):
    return subprocess.run(
        ["podman", *map(str, arguments)],
        check=check,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def run(image, *command, options=(), check=True):
    confined = ["--rm", "--read-only", "--tmpfs=/tmp:rw,mode=1777", "--network=host"]
    return podman("run", *confined, *options, image, *command, check=check)


def _image(target, package):
    """The image, if it is there, starts, and is built from these sources."""
    name = f"storecast:{target}"
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed, and it is what builds and starts the images")
    if podman("image", "exists", name, check=False).returncode:
        pytest.skip(f"there is no image {name}: make image")
    started = run(name, "python", "-c", LISTING.format(package=package), check=False)
    if started.returncode:
        pytest.skip(f"podman cannot start containers here: {started.stderr.strip()[-200:]}")
    here = sorted(
        sha256(path.read_bytes()).hexdigest() for path in (ROOT / package).rglob("*.py")
    )
    if started.stdout.split() != here:
        pytest.skip(f"{name} is not built from these sources: make image")
    return name


@pytest.fixture(scope="module")
def api_image():
    return _image("api", "api")


@pytest.fixture(scope="module")
def job_image():
    return _image("job", "ray_job")


def inspected(image):
    (found,) = json.loads(podman("image", "inspect", image).stdout)
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url, seconds=90):
    end = time.monotonic() + seconds
    while True:
        try:
            answer = httpx.get(url, timeout=2)
            if answer.status_code == 200:
                return answer
        except httpx.TransportError:
            answer = None
        assert time.monotonic() < end, f"{url} does not answer: {answer}"
        time.sleep(0.3)


@pytest.fixture
def bucket(tmp_path):
    """What an API that is live today has to serve."""
    schedule = Schedule(Bucket.make(tmp_path / "bucket").publish.__self__ and _zone(), _deadline())
    as_of = schedule.today(datetime.now(UTC)) - timedelta(days=1)
    made = Bucket.make(tmp_path / "bucket")
    made.publish([StoreSpec("17", as_of=as_of, data_through=as_of)], as_of=as_of)
    grant = {"issuer": ISSUER, "subject": "anna", "stores": ["17"], "role": "manager"}
    made.storage.replace("access/grants.json", json.dumps({"grants": [grant]}).encode(), None)
    (tmp_path / "keys.json").write_bytes(key_set("key"))
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return tmp_path


def issuers(jwks):
    return json.dumps([{"issuer": ISSUER, "jwks": jwks, "audience": AUDIENCE}])


def signed_in(as_of=None):
    now = datetime.now(UTC)
    return {"Authorization": f"Bearer {token('key', subject='anna', now=now)}"}


def answers(address):
    """What must be true of the API wherever it runs."""
    assert wait_for(f"{address}/readyz").json()["ready"] is True
    path = f"{address}/v1/stores/17/forecast"
    assert httpx.get(path).status_code == 401
    forecast = httpx.get(path, headers=signed_in())
    assert forecast.status_code == 200, forecast.text
    assert forecast.json()["stale"] is False
    assert httpx.get(f"{address}/livez").status_code == 200


def test_the_api_image_is_small_and_has_no_ray(api_image):
    assert inspected(api_image)["Size"] < LARGEST_API
    absent = "import importlib.util as u; print([u.find_spec(n) for n in ('ray', 'sklearn', 'ray_job.run')])"
    assert run(api_image, "python", "-c", absent).stdout.strip() == "[None, None, None]"
