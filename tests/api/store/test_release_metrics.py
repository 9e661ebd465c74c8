"""The figures of the served release."""

from __future__ import annotations

from tests.api.fixtures.bucket import STORES, Bucket
from tests.api.fixtures.serving import serve


def test_figures_of_the_served_release(tmp_path):
    Bucket.make(tmp_path).publish(STORES)
    with serve(str(tmp_path)) as api:
        metrics = api.metrics()
        assert metrics["served_as_of_timestamp_seconds",] == 1795305600  # 2026-11-22T00:00:00Z
        # Now is Monday noon in Berlin. The next forecast is due on Tuesday at six, 18 hours later.
        assert metrics["seconds_past_deadline",] == -17 * 3600 - 3600
        assert metrics["stores", "ok"] == 2
        assert metrics["stores", "failed"] == 3
        assert metrics["stores", "no_data"] == 1
        assert metrics["stale_stores",] == 4
        assert metrics["late_stores",] == 1
