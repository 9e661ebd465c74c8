"""Fixtures that several test modules of the service share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta

import pytest
from playwright.sync_api import Browser, sync_playwright

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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. Playwright runs a loop in this thread as long as it is open, beside which tests
    that call asyncio.run would fail; so it ends with the module."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        chromium_browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield chromium_browser
        chromium_browser.close()
