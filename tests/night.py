"""One night in a process of its own, which may be killed: `python -m tests.night BUCKET AS_OF`."""

import sys
from datetime import date

from ray_job.bucket.storage import open_bucket
from tests.shop import Shop

if __name__ == "__main__":
    _, bucket, as_of = sys.argv
    sys.exit(Shop(open_bucket(bucket)).run(date.fromisoformat(as_of)).exit_code)
