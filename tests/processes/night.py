"""`python -m tests.processes.night BUCKET [clean-up]`: one night, in a process of its own.

A test can kill it, or start several at once. With `clean-up` it is a clean-up instead, when the
oldest objects of the test are nearly old enough.
"""

import sys
from datetime import UTC, datetime, timedelta

from ray_job.bucket.receipts import Receipt
from ray_job.bucket.storage import open_bucket
from ray_job.operations.clean_up import clean_up
from ray_job.settings import Plan
from tests.support.shop import LAST, Shop, midnight, sales_row

LATE = [
    sales_row("s002", LAST, 12345.0),
    sales_row("s011", LAST, 99.0),
]
"""A correction of a store, and the first row of a new one."""
LIMITS = Plan(chunk_rows=700)


def night(shop: Shop) -> Receipt:
    """Ingest the late rows, then run."""
    shop.deliver(LATE, now=midnight(LAST))
    return shop.run(LAST)


if __name__ == "__main__":
    if "clean-up" in sys.argv:
        clean_up(open_bucket(sys.argv[1]), datetime.now(UTC) + timedelta(days=6.9))
        sys.exit()
    sys.exit(night(Shop(open_bucket(sys.argv[1])).having(plan=LIMITS)).exit_code)
