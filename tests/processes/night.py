"""`python -m tests.processes.night BUCKET`: one night, in a process that a test can kill."""

import sys

from ray_job.bucket.receipts import Receipt
from ray_job.bucket.storage import open_bucket
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
    sys.exit(night(Shop(open_bucket(sys.argv[1])).having(plan=LIMITS)).exit_code)
