"""A submitter in its own process: `python submitter.py BUCKET AS_OF`. Prints its exit code."""

import sys
from datetime import UTC, date, datetime
from pathlib import Path

from ray_job import settings
from ray_job.bucket.storage.directory import DirectoryStorage
from ray_job.submit import submit
from ray_job.submit.cluster import Pace

if __name__ == "__main__":
    bucket, as_of = sys.argv[1:]
    code = submit(
        settings.load(None),
        lambda: DirectoryStorage.open(Path(bucket)),
        as_of=date.fromisoformat(as_of),
        wait=True,
        adhoc=False,
        now=datetime.now(UTC),
        pace=Pace(watch=1, retry=0.05, patience=5, heartbeat=0.2),
    )
    sys.stdout.write(f"{code}\n")
    sys.exit(code)
