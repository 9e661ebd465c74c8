"""The cluster with the project on it, and the fake storage in this process with its faults."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import httpx
import pytest

from ray_job.bucket import keys, receipts
from ray_job.bucket.storage import open_bucket
from tests.cluster import inside, machines, nightly_job, objects, processes, project, seed
from tests.cluster.places import BUCKET, KUBECONFIG, REPORT, storage
from tests.cluster.project import MANAGER
from tests.cluster.seed import EARLIER
from tests.fake_gcs import FakeGcs
from tests.k8s.support.nights import YESTERDAY


def pytest_collection_modifyitems(items):
    """A night on a busy machine takes minutes."""
    for item in items:
        if "cluster" in item.path.parts and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session", autouse=True)
def _inside():
    """Skip outside of the namespaces."""
    if os.environ.get("KUBECONFIG") != str(KUBECONFIG):
        pytest.skip("these tests run inside of a cluster: make cluster-test")
    REPORT.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def cluster_machines(_inside):
    """The machines under the cluster, for tests that take one of them away."""
    current = machines.current()
    if current is None:
        pytest.skip(machines.REASON)
    return current


@pytest.fixture(scope="session")
def storage_server(_inside):
    processes.stop("storage")
    host, port = storage()
    with FakeGcs.serve(BUCKET, host=host, port=port) as gcs:
        os.environ["STORAGE_EMULATOR_HOST"] = gcs.url
        yield gcs


@pytest.fixture
def bucket(storage_server):
    """The chain before its newest night, as a bucket of the project's own kind."""
    fill(storage_server)
    return open_bucket(f"gs://{BUCKET}")


def fill(server: FakeGcs, folder: Path = project.SEED) -> None:
    """The chain of that folder, and a manager who may see all of it."""
    server.reset()
    server.create_bucket(BUCKET)
    for key, body in seed.objects(folder).items():
        server.put(BUCKET, key, body)
    grant = {"issuer": "https://cloud.google.com/iap", "email": MANAGER, "stores": "*"}
    server.put(BUCKET, keys.GRANTS, json.dumps({"grants": [grant]}).encode())


@pytest.fixture(scope="session")
def live(storage_server):
    """The overlay that is applied."""
    fill(storage_server)
    return project.write_overlay(inside.overlay())


@pytest.fixture(scope="session")
def set_up(live):
    """The project on the cluster."""
    applied = project.apply(live)
    assert applied.returncode == 0, applied.stderr
    nightly_job.suspend_schedules()
    return live


@pytest.fixture
def clean_night(set_up, bucket):
    """No night has run yet."""
    nightly_job.clean()
    yield bucket
    nightly_job.clean()


@pytest.fixture
def served(clean_night, storage_server, ask):
    """An earlier night was published, and the API answers with it: the path of a forecast."""
    for key, body in seed.objects(seed.PUBLISHED).items():
        storage_server.put(BUCKET, key, body)
    path = "/v1/stores/s002/forecast"

    def answers():
        """Each of its pods may still serve what an earlier test had in the bucket."""
        said = [ask(path) for _ in range(8)]
        return all(
            answer.status_code == httpx.codes.OK and answer.json()["as_of"] == str(EARLIER)
            for answer in said
        )

    processes.wait_until(120, "the earlier night's answers", answers, 1)
    return path


@pytest.fixture
def published_receipts(bucket):
    """The receipts of last night that were published."""

    def read():
        return [entry for entry in receipts.of_night(bucket, YESTERDAY) if entry.published]

    return read


@pytest.fixture
def ask():
    """Ask the API through its Service as a manager whom Identity-Aware Proxy let in."""

    def call(path, email=MANAGER, audience=project.IAP_AUDIENCE):
        headers = project.signed_in(email, audience=audience)
        try:
            return httpx.get(f"{objects.api_url()}{path}", headers=headers, timeout=30)
        except httpx.ConnectError:  # no pod is ready: the Service has no endpoint
            return httpx.Response(httpx.codes.SERVICE_UNAVAILABLE, json={})

    return call


@pytest.fixture
def timeline(request):
    """Notes moments of a test, which are printed when it ends."""
    began, lines = time.monotonic(), []

    def note(moment):
        lines.append(f"{time.monotonic() - began:7.1f} s  {moment}")

    yield note
    nightly_job.report(request.node.name, lines)
