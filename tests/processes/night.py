"""`python -m tests.processes.night BUCKET`: one night in a process that a test may kill."""

import sys

from ray_job.bucket.receipts import Receipt
from ray_job.bucket.storage import open_bucket
from ray_job.settings import Plan
from tests.support.shop import LAST, Shop, midnight

LATE = [
    {"store_id": "s002", "date": LAST, "sales": 12345.0, "open": 1, "promo": 0},
    {"store_id": "s011", "date": LAST, "sales": 99.0, "open": 1, "promo": 0},
]
"""A correction of one store, and a new one."""
LIMITS = Plan(chunk_rows=700)


def night(shop: Shop) -> Receipt:
    """What the night does: bring in what arrived late, and run."""
    shop.deliver(LATE, now=midnight(LAST))
    return shop.run(LAST)


if __name__ == "__main__":
    sys.exit(night(Shop(open_bucket(sys.argv[1])).having(plan=LIMITS)).exit_code)
