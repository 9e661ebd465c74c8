"""What the tests share: a served fake storage, both kinds of bucket, and the small chain in one."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_job.bucket.storage import Storage, open_bucket
from tests.fake_gcs import FakeGcs
from tests.support.shop import Shop, filled, objects

BUCKET = "chain"
REAL_BUCKET = "STORECAST_TEST_BUCKET"
"""The environment variable that names a real bucket; tests write under a prefix of their own."""


@pytest.fixture(scope="session")
def served() -> Iterator[FakeGcs]:
    """The fake storage over HTTP, once for all tests; `gcs` gives it out clean."""
    with FakeGcs.serve() as service:
        yield service


@pytest.fixture
def gcs(served: FakeGcs, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGcs]:
    """The fake storage with one empty bucket; the clients of this process find it."""
    served.reset()
    served.create_bucket(BUCKET)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", served.url)
    yield served
    served.reset()


@pytest.fixture(params=["directory", "gcs", *(["real"] if REAL_BUCKET in os.environ else [])])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty bucket: in a directory, on the fake storage, and in a real one where it is named."""
    if request.param == "gcs":
        request.getfixturevalue("gcs")
        return open_bucket(f"gs://{BUCKET}")
    if request.param == "real":
        return open_bucket(f"gs://{os.environ[REAL_BUCKET]}/storecast-tests/{uuid.uuid4().hex}")
    return directory(tmp_path)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """The chain in a directory: everything ingested, a model, nothing run."""
    return Shop(filled(tmp_path / "bucket", objects()))


@pytest.fixture
def gcs_shop(gcs: FakeGcs) -> Shop:
    """The same on the fake storage."""
    for key, data in objects().items():
        gcs.put(BUCKET, key, data)
    return Shop(open_bucket(f"gs://{BUCKET}"))


@pytest.fixture(scope="session")
def local_ray(served: FakeGcs) -> Iterator[None]:
    """One local Ray with two CPUs for all tests that need it; its workers find the fake storage."""
    import ray  # noqa: PLC0415 - only those tests load Ray

    ray.init(
        address="local",
        runtime_env={"env_vars": {"STORAGE_EMULATOR_HOST": served.url}},
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        yield
    finally:
        ray.shutdown()


def directory(tmp_path: Path) -> Storage:
    root = tmp_path / "bucket"
    root.mkdir()
    return open_bucket(str(root))
