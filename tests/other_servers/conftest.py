"""The servers, each started once, and an empty bucket on each for a test."""

from __future__ import annotations

import uuid

import pytest

from ray_job.bucket.storage import open_bucket
from tests.fake_gcs.clients import storage_client
from tests.other_servers import servers

START = {"fake-gcs-server": servers.fake_gcs_server, "storage-testbench": servers.testbench}


@pytest.fixture(scope="session", params=sorted(START))
def server(request, tmp_path_factory):
    """(name, address) of a server that we did not write."""
    with START[request.param](tmp_path_factory.mktemp(request.param)) as url:
        yield request.param, url


@pytest.fixture
def bucket_name(server, monkeypatch):
    """An empty bucket on the server; the clients of this process go there."""
    _, url = server
    name = f"b-{uuid.uuid4().hex[:12]}"
    with storage_client(url) as client:
        client.create_bucket(name)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
    return name


@pytest.fixture
def storage(bucket_name):
    """The same as `storage` of all tests, so that the suite of the bucket runs on this server."""
    return open_bucket(f"gs://{bucket_name}")
