"""Fixtures that several test modules of the service share."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.api.fixtures.bucket import AS_OF, STORES, Bucket, StoreSpec
from tests.api.fixtures.serving import RunningApi, serve


@pytest.fixture(scope="session")
def running_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    """The service over STORES and a release three nights older. No test may change it."""
    folder = tmp_path_factory.mktemp("bucket")
    bucket = Bucket.make(folder)
    earlier = AS_OF - timedelta(days=3)
    bucket.publish(
        [
            StoreSpec("1", base=40, as_of=earlier, data_through=earlier),
            StoreSpec("2", items=("a", "b"), as_of=earlier, data_through=earlier),
        ],
        as_of=earlier,
    )
    bucket.publish(STORES, parts_per_run=2)
    with serve(str(folder)) as api:
        yield api
