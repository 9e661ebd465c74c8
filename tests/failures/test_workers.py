"""Workers on Ray that have no memory, wait for a storage that stalls, or find it crashed."""

import pytest

from ray_job.bucket.errors import StorecastError
from ray_job.job import RayExecutor
from ray_job.settings import Plan, Run
from tests.fake_gcs import Crash, Fault
from tests.faults import Trapped
from tests.shop import DAY, LAST, STORES, generations

pytestmark = [
    pytest.mark.usefixtures("local_ray"),
    pytest.mark.timeout(280),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Ray, about itself
]
VAST = "vast"
POISONED = "s003"


def short_of_memory(task):
    """The worker may take 24 MB more than it has while it is at the vast store; else what it likes.

    It is the kernel that refuses: where numpy, Arrow or scikit-learn happen to ask for more.
    """
    limit = "-1"
    if VAST in task.chunk.store_ids:
        limit = "int(open('/proc/self/statm').read().split()[0]) * 4096 + 24 * 2**20"
    resource = "__import__('resource')"
    limited = f"{resource}.setrlimit({resource}.RLIMIT_AS, ({limit}, -1))"
    # The libraries are there before: it is the data that shall not fit.
    return f"(__import__('sklearn.ensemble'), {limited}, {task.attempt})[2]"


def test_a_worker_that_runs_out_of_memory(shop):
    """The store that needs more than there is costs itself; with more memory it is forecast."""
    shop = shop.having(plan=Plan())
    rows = [
        {"store_id": VAST, "item_id": f"i{k:05d}", "date": LAST - DAY, "sales": 5.0, "open": 1}
        for k in range(60_000)
    ]
    shop.deliver(rows)
    shop.run(LAST - DAY)
    trapped = Trapped(RayExecutor(), lambda _: True, short_of_memory)
    try:
        receipt = shop.by(trapped).run()
    finally:
        # The workers are those of other tests, too.
        shop.by(trapped).run(LAST - 3 * DAY, publish=False, stores=[*STORES])
    assert (receipt.status, receipt.exit_code) == ("published_with_failures", 4)
    (failure,) = receipt.failures
    assert failure.store_id == VAST
    assert failure.reason_code in ("memory", "killed_worker")
    assert failure.last_good_as_of == LAST - DAY
    stores = shop.stores()
    assert {row["as_of"] for name, row in stores.items() if name != VAST} == {LAST}
    shop.check()
    again = shop.run(force=True)
    assert (again.status, again.exit_code) == ("published", 0)
    assert shop.stores()[VAST]["as_of"] == LAST


def test_a_storage_that_stalls_for_a_worker(gcs_shop, gcs):
    """The chunk is ended by its deadline and done again, when the storage answers."""
    stalled = gcs.faults.add(Fault("stall", op="get", key=f"*store_id={POISONED}/*", seconds=120.0))
    shop = gcs_shop.having(run=Run(chunk_deadline_seconds=20))
    receipt = shop.by(RayExecutor()).run()
    assert stalled.fired == 1
    assert (receipt.status, receipt.exit_code) == ("published", 0)
    assert receipt.stores.ok == 8
    shop.check()


@pytest.mark.parametrize("what", ["results/parts/", "results/releases/", "results/current.json"])
def test_a_crash_through_ray(gcs_shop, gcs, what):
    """A sample of the crashes that are tried one by one without Ray."""
    shop = gcs_shop.by(RayExecutor())
    gcs_shop.run(LAST - DAY)

    def crash(key):
        if key.startswith(what):
            raise Crash

    gcs.after_write = crash
    with pytest.raises(StorecastError):
        shop.run()
    assert gcs.crashed
    gcs.recover()
    gcs.after_write = None
    shop.check()
    there = set(shop.part_keys())
    receipt = shop.run()
    assert (receipt.status, receipt.exit_code) == ("published", 0)
    assert {chunk.part for chunk in receipt.chunks if chunk.adopted} == there
    before = generations(shop.storage)
    assert shop.run() == receipt
    assert generations(shop.storage) == before
    shop.check()
