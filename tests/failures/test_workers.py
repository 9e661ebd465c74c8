"""Workers on Ray whose storage stalls or crashes."""

import pytest

from ray_job.bucket import keys
from ray_job.bucket.errors import StorecastError
from ray_job.datasets.executor import RayExecutor
from ray_job.settings import Run
from tests.fake_gcs import Crash, Fault
from tests.support.faults import StallingOnce
from tests.support.processes import log_events
from tests.support.shop import DAY, LAST, generations

pytestmark = [
    pytest.mark.usefixtures("local_ray"),
    pytest.mark.timeout(280),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Ray, about itself
]
POISONED = "s003"


def test_a_storage_that_stalls_for_a_worker(gcs_shop, gcs, capsys):
    """The deadline ends the chunk. It is made again when the storage answers.

    Arrow's stream, and two connections of the other client, stall one after the other.
    """
    gcs_shop.delete(keys.PACKS)
    files = f"*store_id={POISONED}/*"
    stall = Fault("stall", op="get", key=files, seconds=120.0, times=3)
    shop = gcs_shop.having(run=Run(chunk_deadline_seconds=20))
    receipt = shop.by(StallingOnce(RayExecutor(), gcs.faults, stall)).run()
    assert stall.fired == 3
    assert log_events(capsys.readouterr().err, "task_lost")
    assert (receipt.status, receipt.exit_code) == ("published", 0)
    assert receipt.stores.ok == 8
    shop.check()


@pytest.mark.parametrize("prefix", ["results/parts/", "results/releases/", "results/current.json"])
def test_a_crash_through_ray(gcs_shop, gcs, prefix):
    """Three of the crashes that `test_crashes.py` tries without Ray."""
    shop = gcs_shop.by(RayExecutor())
    gcs_shop.run(LAST - DAY)

    def crash(key):
        if key.startswith(prefix):
            raise Crash

    gcs.after_write = crash
    with pytest.raises(StorecastError):
        shop.run()
    assert gcs.crashed
    gcs.recover()
    gcs.after_write = None
    shop.check()
    finished_parts = set(shop.part_keys())
    receipt = shop.run()
    assert (receipt.status, receipt.exit_code) == ("published", 0)
    assert {chunk.part for chunk in receipt.chunks if chunk.adopted} == finished_parts
    before = generations(shop.storage)
    assert shop.run() == receipt
    assert generations(shop.storage) == before
    shop.check()
