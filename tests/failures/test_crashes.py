"""A writer that dies before or after any of its writes, and a writer whose answers are lost.

Afterwards each test runs the same commands again, as the next attempt of a real night does.
"""

import os
import signal
import subprocess

import pytest

from ray_job.bucket import keys
from ray_job.bucket.errors import StorecastError
from ray_job.bucket.storage import open_bucket
from tests.conftest import BUCKET, fill
from tests.fake_gcs import Crash, Fault
from tests.processes.night import LIMITS, night
from tests.support.processes import python_command
from tests.support.shop import DAY, LAST, STORES, Shop, generations, objects, snapshot

KINDS = (
    keys.RAW_DATA,
    "batch_data/store_id=",
    "batch_data/_ingest/",
    "batch_data/_delta_log/",
    keys.WIDTHS,
    keys.PARTS,
    keys.ACCURACY,
    keys.RELEASES,
    keys.POINTER,
    keys.RECEIPTS,
)
"""The kinds of objects that a night writes, in the order of their first writes."""


@pytest.fixture(scope="module")
def eve(gcs_server):
    """The bucket on the evening before: the previous night is published, this one has not begun.

    Further the keys that the night writes, in order, its rows, and its table.
    """
    gcs_server.reset()
    gcs_server.create_bucket(BUCKET)
    os.environ["STORAGE_EMULATOR_HOST"] = gcs_server.url
    try:
        fill(gcs_server, objects())
        shop = _shop()
        shop.run(LAST - DAY)
        before = dict(gcs_server.snapshot(BUCKET))
        written: list[str] = []
        gcs_server.before_write = written.append
        night(shop)
        return before, written, shop.all_rows(), snapshot(shop.storage, keys.BATCH_DATA)
    finally:
        del os.environ["STORAGE_EMULATOR_HOST"]
        gcs_server.reset()


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
        written_keys = _crash(gcs, moment, number)
        with pytest.raises(StorecastError):
            night(shop)
        assert gcs.crashed, (number, written_keys)
        gcs.recover()
        shop.check()
        assert shop.pointer.current_entry.as_of in (LAST - DAY, LAST)
        parts_after_crash = set(shop.part_keys())
        night(shop)
        _check_after_all(shop, expected)
        # Finished parts are not made again.
        new_parts = set(shop.part_keys()) - parts_after_crash
        assert len(new_parts) + len(parts_after_crash) == len(
            {k for k in written if k.startswith(keys.PARTS)}
        )


def _fill_anew(gcs, contents):
    gcs.reset()
    gcs.create_bucket(BUCKET)
    fill(gcs, contents)


def _crash(gcs, moment, number):
    """Crash at the write of that number; returns a list that gets the keys of the writes."""
    keys_so_far: list[str] = []

    def count(key):
        keys_so_far.append(key)
        if len(keys_so_far) == number + 1:
            raise Crash

    if moment == "before":
        gcs.before_write = count
    else:
        gcs.after_write = count
    return keys_so_far


@pytest.mark.parametrize("status", [None, 503])
@pytest.mark.parametrize(
    "pattern",
    [
        "results/parts/*",
        "results/releases/*",
        keys.POINTER,
        "results/receipts/*",
        "results/accuracy/*",
        "results/widths/*",
        "batch_data/_delta_log/*",
        "batch_data/_ingest/*",
        "batch_data/store_id=*",
        "raw_data/*",
    ],
)
def test_lost_answers(eve, gcs, pattern, status):
    before, _, expected, _ = eve
    _fill_anew(gcs, before)
    shop = _shop()
    fault = gcs.faults.add(Fault("ack_lost", key=pattern, when=_writes, status=status))
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
    for pattern in ("results/current.json", "results/releases/*", "batch_data/_delta_log/*"):
        gcs.faults.add(Fault("stall", key=pattern, seconds=1.0))
    receipt = night(_shop())
    struck = len([entry for entry in gcs.log.entries if entry.fault == "stall"])
    gcs.faults.clear()
    assert struck > 5
    assert receipt.status == "published"
    _check_after_all(_shop(), expected)


@pytest.mark.parametrize("kind", ["corrupt", "truncate"])
def test_bodies_that_arrive_broken(eve, gcs, kind):
    """A tenth of the bodies have other bytes or end early; a second request gets the whole body."""
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
    """The process is killed as soon as it has written the first object of a kind."""
    before, written, expected, _ = eve
    _fill_anew(gcs, before)
    with subprocess.Popen(python_command("tests.processes.night", f"gs://{BUCKET}")) as process:

        def kill(key):
            if key.startswith(stage):
                gcs.after_write = None
                os.kill(process.pid, signal.SIGKILL)

        gcs.after_write = kill
        assert process.wait(60) == -signal.SIGKILL
    shop = _shop()
    shop.check()
    finished_parts = set(shop.part_keys())
    assert shop.pointer.current_entry.as_of == (
        LAST if stage in (keys.POINTER, keys.RECEIPTS) else LAST - DAY
    )
    generations_before = generations(shop.storage)
    receipt = night(shop)
    assert receipt.status == "published"
    if stage == keys.RECEIPTS:
        assert generations(shop.storage) == generations_before
    else:
        assert {chunk.part for chunk in receipt.chunks if chunk.adopted} == finished_parts
    assert finished_parts <= set(shop.part_keys())
    assert len(shop.part_keys()) == len({key for key in written if key.startswith(keys.PARTS)})
    _check_after_all(shop, expected)
