"""A fake storage for each test, and Google's client for it."""

from __future__ import annotations

import gc as garbage

import pytest

from tests.fake_gcs import FakeGcs
from tests.fake_gcs.clients import storage_client


@pytest.fixture
def gcs():
    """A server of the test's own: no client of another test can reach it."""
    with FakeGcs.serve("b") as gcs:
        yield gcs


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
