"""`python -m tests.benchmarks.commands.short_night AS_OF`: `storecast run` one day ahead.

The command itself forecasts two days at least. Apart from that this is the same: bucket and
settings from the environment, Ray started and ended, a receipt.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, date, datetime

from ray_job.bucket.storage import open_bucket
from ray_job.progress import SilentProgress
from ray_job.settings import load


def main(as_of: date) -> int:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from ray_job.nightly.job import run_job  # noqa: PLC0415 - as the command does
    from ray_job.nightly.request import RunRequest  # noqa: PLC0415

    settings = load(None, bucket=None).model_copy(update={"horizon": 1})
    receipt = run_job(
        open_bucket(settings.bucket),
        settings,
        RunRequest(as_of=as_of),
        now=datetime.now(UTC),
        clock=time.monotonic,
        progress=SilentProgress(),
    )
    return receipt.exit_code


if __name__ == "__main__":
    sys.exit(main(date.fromisoformat(sys.argv[1])))
