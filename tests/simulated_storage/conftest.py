"""The fake storage, fresh for each test, and Google's client for it."""

from __future__ import annotations

import gc as garbage

import pytest

from tests.fake_gcs import FakeGcs
from tests.fake_gcs.clients import storage_client


@pytest.fixture(scope="module")
def served():
    with FakeGcs.serve() as gcs:
        yield gcs


@pytest.fixture
def gcs(served):
    served.reset()
    served.create_bucket("b")
    return served


@pytest.fixture
def drops_answers():
    """google-cloud-storage doesn't close the refusal of a download that it tries again."""
    yield
    garbage.collect()


@pytest.fixture
def client(gcs):
    with storage_client(gcs.url) as client:
        yield client


@pytest.fixture
def bucket(client):
    return client.bucket("b")
