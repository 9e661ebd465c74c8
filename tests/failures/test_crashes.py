"""A writer that dies before or after any of its writes, and one whose answers are lost.

What is tried again afterwards is what would be tried in a real night: the same commands.
"""

import os
import signal
import subprocess
import sys

import pytest

from ray_job.bucket import keys
from ray_job.bucket.errors import StorecastError
from ray_job.bucket.storage import open_bucket
from tests.conftest import BUCKET
from tests.fake_gcs import Crash, Fault
from tests.processes.night import LIMITS, night
from tests.support.shop import DAY, LAST, STORES, Shop, generations, objects, snapshot

KINDS = (
    keys.RAW_DATA,
    "batch_data/store_id=",
    "batch_data/_ingest/",
    "batch_data/_delta_log/",
    keys.PARTS,
    keys.ACCURACY,
    keys.RELEASES,
    keys.POINTER,
    keys.RECEIPTS,
)
"""What a night writes, in the order of its first writes."""


@pytest.fixture(scope="module")
def eve(served):
    """The bucket on the evening before: the last night is published, nothing of this one is there.

    With it come the keys that the night writes, in order, and the rows that it ends with.
    """
    served.reset()
    served.create_bucket(BUCKET)
    os.environ["STORAGE_EMULATOR_HOST"] = served.url
    try:
        _fill(served, objects())
        shop = _shop()
        shop.run(LAST - DAY)
        before = dict(served.snapshot(BUCKET))
        written: list[str] = []
        served.before_write = written.append
        night(shop)
        return before, written, shop.all_rows(), snapshot(shop.storage, keys.BATCH_DATA)
    finally:
        del os.environ["STORAGE_EMULATOR_HOST"]
        served.reset()


def _fill(gcs, contents):
    for key, data in contents.items():
        gcs.put(BUCKET, key, data)


def _shop():
    return Shop(open_bucket(f"gs://{BUCKET}")).having(plan=LIMITS)


def _check_after_all(shop, expected):
    shop.check()
    assert shop.all_rows().equals(expected)
    assert {row["as_of"] for name, row in shop.stores().items() if name in STORES} == {LAST}
    assert [entry.as_of for entry in shop.pointer.history] == [LAST, LAST - DAY]
    before = generations(shop.storage)
    night(shop)
    assert generations(shop.storage) == before


def test_the_night_writes_all_kinds_of_objects(eve):
    written = eve[1]
    for prefix in KINDS:
        assert any(key.startswith(prefix) for key in written), prefix


@pytest.mark.timeout(280)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_at_every_single_write(eve, gcs, moment):
    before, written, expected, _ = eve
    for number in range(len(written)):
        _fill_anew(gcs, before)
        shop = _shop()
        key = _crash(gcs, moment, number)
        with pytest.raises(StorecastError):
            night(shop)
        assert gcs.crashed, (number, key)
        gcs.recover()
        shop.check()
        assert shop.pointer.current_entry.as_of in (LAST - DAY, LAST)
        finished = len(shop.part_keys())
        parts_before = set(shop.part_keys())
        night(shop)
        _check_after_all(shop, expected)
        # What was finished is not done again.
        again = set(shop.part_keys()) - parts_before
        assert len(again) + finished == len({k for k in written if k.startswith(keys.PARTS)})


def _fill_anew(gcs, contents):
    gcs.reset()
    gcs.create_bucket(BUCKET)
    _fill(gcs, contents)


def _crash(gcs, moment, number):
    """Die at the write of that number; returns a list that then holds its key."""
    seen: list[str] = []

    def count(key):
        seen.append(key)
        if len(seen) == number + 1:
            raise Crash

    if moment == "before":
        gcs.before_write = count
    else:
        gcs.after_write = count
    return seen


@pytest.mark.parametrize("status", [None, 503])
@pytest.mark.parametrize(
    "what",
    [
        "results/parts/*",
        "results/releases/*",
        keys.POINTER,
        "results/receipts/*",
        "results/accuracy/*",
        "batch_data/_delta_log/*",
        "batch_data/_ingest/*",
        "batch_data/store_id=*",
        "raw_data/*",
    ],
)
def test_lost_answers(eve, gcs, what, status):
    before, _, expected, _ = eve
    _fill_anew(gcs, before)
    shop = _shop()
    fault = gcs.faults.add(Fault("ack_lost", key=what, when=_writes, status=status))
    receipt = night(shop)
    assert fault.fired == 1
    assert (receipt.status, receipt.exit_code) == ("published", 0)
    _check_after_all(shop, expected)


def _writes(request):
    return request.is_write


@pytest.mark.parametrize("seed", range(3))
def test_transient_faults_change_nothing(eve, gcs, seed):
    before, _, expected, _ = eve
    _fill_anew(gcs, before)
    gcs.faults.transient(0.15, seed=seed)
    receipt = night(_shop())
    struck = len([entry for entry in gcs.log.entries if entry.fault])
    gcs.faults.clear()
    assert struck > 5
    assert receipt.status == "published"
    _check_after_all(_shop(), expected)


def test_stalls_change_nothing(eve, gcs):
    before, _, expected, _ = eve
    _fill_anew(gcs, before)
    gcs.faults.transient(0.05, seed=2, mix=[Fault("stall", seconds=0.3)])
    for what in ("results/current.json", "results/releases/*", "batch_data/_delta_log/*"):
        gcs.faults.add(Fault("stall", key=what, seconds=1.0))
    receipt = night(_shop())
    struck = len([entry for entry in gcs.log.entries if entry.fault == "stall"])
    gcs.faults.clear()
    assert struck > 5
    assert receipt.status == "published"
    _check_after_all(_shop(), expected)


@pytest.mark.parametrize("kind", ["corrupt", "truncate"])
def test_bodies_that_arrive_broken(eve, gcs, kind):
    """Now and then a body comes with other bytes or ends early: asked again, it is whole."""
    before, _, expected, _ = eve
    _fill_anew(gcs, before)
    gcs.faults.transient(0.1, seed=5, mix=[Fault(kind, op="get")])
    for _ in range(5):
        try:
            receipt = night(_shop())
        except StorecastError:
            continue
        if receipt.exit_code == 0:
            break
    gcs.faults.clear()
    night(_shop())
    shop = _shop()
    shop.check()
    assert shop.all_rows().equals(expected)


@pytest.mark.parametrize("stage", KINDS)
def test_a_driver_that_is_killed(eve, gcs, stage):
    """The process goes, with all that it held, as soon as it has written the first of a kind."""
    before, written, expected, _ = eve
    _fill_anew(gcs, before)
    command = [sys.executable, "-m", "tests.processes.night", f"gs://{BUCKET}"]
    with subprocess.Popen(command) as process:

        def kill(key):
            if key.startswith(stage):
                gcs.after_write = None
                os.kill(process.pid, signal.SIGKILL)

        gcs.after_write = kill
        assert process.wait(60) == -signal.SIGKILL
    shop = _shop()
    shop.check()
    there = set(shop.part_keys())
    assert shop.pointer.current_entry.as_of == (
        LAST if stage in (keys.POINTER, keys.RECEIPTS) else LAST - DAY
    )
    generations_before = generations(shop.storage)
    receipt = night(shop)
    assert receipt.status == "published"
    if stage == keys.RECEIPTS:
        assert generations(shop.storage) == generations_before
    else:
        assert {chunk.part for chunk in receipt.chunks if chunk.adopted} == there
    assert there <= set(shop.part_keys())
    assert len(shop.part_keys()) == len({key for key in written if key.startswith(keys.PARTS)})
    _check_after_all(shop, expected)
