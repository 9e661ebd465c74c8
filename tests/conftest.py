"""What the tests share: a served fake storage, both kinds of bucket, and the small chain in one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_job.bucket.storage import Storage, open_bucket
from tests.fake_gcs import FakeGcs
from tests.shop import Shop, objects

BUCKET = "chain"


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


@pytest.fixture(params=["directory", "gcs"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty bucket, once in a directory and once on the fake storage."""
    if request.param == "gcs":
        request.getfixturevalue("gcs")
        return open_bucket(f"gs://{BUCKET}")
    return directory(tmp_path)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """The chain in a directory: everything ingested, a model, nothing run."""
    root = tmp_path / "bucket"
    for key, data in objects().items():
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Shop(open_bucket(str(root)))


@pytest.fixture
def gcs_shop(gcs: FakeGcs) -> Shop:
    """The same on the fake storage."""
    for key, data in objects().items():
        gcs.put(BUCKET, key, data)
    return Shop(open_bucket(f"gs://{BUCKET}"))


@pytest.fixture(scope="session")
def ray() -> Iterator[None]:
    """One local Ray with two CPUs for all tests that need it."""
    from ray_job import job  # noqa: PLC0415 - only those tests load Ray

    os.environ.pop("RAY_ADDRESS", None)
    with job.cluster(num_cpus=2):
        yield


def directory(tmp_path: Path) -> Storage:
    root = tmp_path / "bucket"
    root.mkdir()
    return open_bucket(str(root))
