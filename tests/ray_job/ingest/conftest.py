"""The bucket of the tests of the ingest."""

from pathlib import Path

import pytest

from ray_job.bucket.storage import open_bucket
from ray_job.settings import Settings
from tests.support.delivery_bucket import DeliveryBucket


@pytest.fixture(params=["directory", "gcs"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> DeliveryBucket:
    """An empty bucket: a directory, or a prefix on the fake storage."""
    if request.param == "gcs":
        request.getfixturevalue("gcs")
        storage = open_bucket("gs://chain/prefix")
    else:
        (tmp_path / "bucket").mkdir()
        storage = open_bucket(str(tmp_path / "bucket"))
    return DeliveryBucket(storage, Settings(), tmp_path / "local")


@pytest.fixture
def directory(tmp_path: Path) -> DeliveryBucket:
    """An empty bucket in a directory, for what does not depend on the storage."""
    (tmp_path / "bucket").mkdir()
    return DeliveryBucket(open_bucket(str(tmp_path / "bucket")), Settings(), tmp_path / "local")
