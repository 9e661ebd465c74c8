"""Fixtures of all tests: the fake storage, empty buckets, the small chain, a local Ray."""

from __future__ import annotations

import logging
import os
import signal
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from ray_job.bucket.storage import Storage, open_bucket
from tests.fake_gcs import FakeGcs
from tests.support.drafts import Publisher
from tests.support.gcloud import GcloudParser
from tests.support.processes import RAY_IN_TESTS
from tests.support.shop import Shop, filled, objects

for _name, _value in RAY_IN_TESTS.items():
    os.environ.setdefault(_name, _value)

# A busy machine takes seconds for what takes milliseconds; no test asserts how long anything takes.
hypothesis_settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("any-machine")

BUCKET = "chain"
REAL_BUCKET = "STORECAST_TEST_BUCKET"
"""An environment variable with the name of a real bucket. Each test writes under its own prefix."""


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[FakeGcs]:
    """The fake storage over HTTP, started once. A test uses `gcs`, which is empty."""
    with FakeGcs.serve() as service:
        yield service


@pytest.fixture
def gcs(gcs_server: FakeGcs, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGcs]:
    """The fake storage with one empty bucket; the clients of this process find it."""
    gcs_server.reset()
    gcs_server.create_bucket(BUCKET)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.url)
    yield gcs_server
    gcs_server.reset()


@pytest.fixture(params=["directory", "gcs", *(["real"] if REAL_BUCKET in os.environ else [])])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty bucket: in a directory, on the fake storage, in a real bucket if one is named."""
    if request.param == "gcs":
        request.getfixturevalue("gcs")
        return open_bucket(f"gs://{BUCKET}")
    if request.param == "real":
        return open_bucket(f"gs://{os.environ[REAL_BUCKET]}/storecast-tests/{uuid.uuid4().hex}")
    return directory(tmp_path)


@pytest.fixture
def local_storage(tmp_path: Path) -> Storage:
    """An empty bucket in a directory."""
    return directory(tmp_path)


@pytest.fixture
def publisher(storage: Storage) -> Publisher:
    return Publisher(storage)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """The chain in a directory: its sales are ingested, it has a model, no night has run."""
    return Shop(filled(tmp_path / "bucket", objects()))


@pytest.fixture
def gcs_shop(gcs: FakeGcs) -> Shop:
    """The same on the fake storage."""
    fill(gcs, objects())
    return Shop(open_bucket(f"gs://{BUCKET}"))


@pytest.fixture(scope="session")
def parse_gcloud(tmp_path_factory: pytest.TempPathFactory) -> GcloudParser:
    """gcloud's own parser. Skips the test where gcloud is not installed."""
    return GcloudParser(tmp_path_factory.mktemp("gcloud"))


@pytest.fixture(scope="session")
def local_ray(gcs_server: FakeGcs) -> Iterator[None]:
    """A local Ray with two CPUs, started once. Its workers use the fake storage."""
    import ray  # noqa: PLC0415 - only tests with this fixture load Ray

    # A shell's background job ignores this signal, and so would Ray's workers, whose tasks Ray
    # cancels by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ray.init(
        address="local",
        runtime_env={"env_vars": {"STORAGE_EMULATOR_HOST": gcs_server.url}},
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        yield
    finally:
        ray.shutdown()


def fill(gcs: FakeGcs, contents: Mapping[str, bytes]) -> None:
    """Put objects, by key, into the fake storage's bucket."""
    for key, data in contents.items():
        gcs.put(BUCKET, key, data)


def directory(tmp_path: Path) -> Storage:
    """A new bucket in the folder `bucket` of a test's own folder."""
    root = tmp_path / "bucket"
    root.mkdir()
    return open_bucket(str(root))
