"""A storage that fails or stalls keeps a run no longer than its setting, whatever it refuses."""

import threading
import time
from contextlib import suppress

import pytest
from typer.testing import CliRunner

from ray_job.__main__ import app
from ray_job.bucket import keys
from ray_job.bucket.errors import (
    AccessRefusedError,
    NotFoundError,
    StorageError,
    StorecastError,
)
from ray_job.bucket.storage.patience import CALL_SECONDS, Patience
from ray_job.bucket.storage.stalls import StalledError, StallWatch
from ray_job.data import delta
from ray_job.settings import Plan, Run
from tests.fake_gcs import Fault
from tests.support.shop import LAST

WAIT = 4
"""Seconds that each run here may wait in all."""
KINDS = {
    "a part": ("results/parts/*", "insert"),
    "a release": ("results/releases/*", "insert"),
    "the pointer": (keys.POINTER, "insert"),
    "a receipt": ("results/receipts/*", "insert"),
    "the pointer, read": (keys.POINTER, "get"),
    "a model, read": ("models/*", "get"),
    "the log, read": ("batch_data/_delta_log/*", "get"),
    "the log, listed": ("*", "list"),
}


def is_of_delta_rs(request):
    return request.api == "xml"


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_that_is_unavailable_keeps_a_run_no_longer_than_its_setting(gcs_shop, gcs, kind):
    """503 for ever. The run ends, names what it could not have, and the next one goes on."""
    pattern, op = KINDS[kind]
    shop = gcs_shop.having(run=Run(storage_wait_seconds=WAIT), plan=Plan(chunk_rows=420))
    fault = gcs.faults.add(Fault("status", key=pattern, op=op, status=503, times=None))
    began, spent = time.monotonic(), time.process_time()
    try:
        receipt = shop.run()
        said = " ".join(failure.reason for failure in receipt.failures) + receipt.message
    except StorecastError as error:
        said = str(error)
    waited = time.monotonic() - began
    assert fault.fired
    assert "the storage" in said or pattern.partition("/")[0] in said
    # What it waited beside its work, of which other processes may make more.
    assert waited < WAIT + CALL_SECONDS / 2 + 10 * (time.process_time() - spent)
    gcs.faults.clear()
    assert shop.run().exit_code == 0
    shop.check()


def test_an_exhausted_limit_asks_no_more():
    patience = Patience()
    with patience.limited(0.0), pytest.raises(StorageError, match=r"^k: .*storage_wait_seconds"):  # noqa: SIM117
        with patience.call("k"):
            raise AssertionError("it was asked")
    with patience.call("k"):
        pass  # what comes after the run has no limit


@pytest.mark.parametrize(
    ("error", "calls"), [(StorageError("no answer"), 6), (AccessRefusedError("no"), 20)]
)
def test_calls_that_have_little_time_left_use_it_up(monkeypatch, error, calls):
    """Each was tried for the half second that was left, which counted for nothing, and for ever."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    patience, asked = Patience(), 0
    with patience.limited(4.0):
        for _ in range(20):
            with suppress(StorageError), patience.call("k"):
                asked += 1
                now[0] += 1.5 if asked <= 2 else 0.25
                raise error
    assert asked == calls


def test_a_stream_that_is_given_up_was_waiting(monkeypatch):
    """It counted for nothing, and the other client had the whole limit once more."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    patience = Patience()
    with patience.limited(4.0):
        with suppress(StalledError), patience.call("k"):
            now[0] += 1.5
            raise StalledError
        assert (patience.waited, patience.call_seconds()) == (1.5, 2.5)


def test_a_limit_within_a_limit_is_that_of_the_whole():
    """An ingest, a run and packing are one command: each had the whole setting for itself."""
    patience = Patience()
    with patience.limited(3.0):
        with patience.limited(100.0):
            assert patience.total == 3.0
        patience.pass_on("run")
        patience.limit("run", 100.0)
        assert patience.total == 3.0
    assert patience.total is None


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("status", status=503, times=None), "gs://chain: the storage did not answer in time"),
        (Fault("stall", op="bucket", seconds=600, times=None), "timed out"),
        (Fault("stall", key=keys.POINTER, seconds=600, times=None), keys.POINTER),
        (
            Fault("status", op="list", when=is_of_delta_rs, status=503, times=None),
            "batch_data: the storage answers 503 Service Unavailable, also when it is asked again",
        ),
        (
            Fault("stall", key="batch_data/_delta_log/*", op="get", seconds=600, times=None),
            "batch_data: the storage does not answer: error sending request: operation timed out",
        ),
        (
            Fault("truncate", key=keys.CURRENT_MODEL, op="get", times=None),
            f"{keys.CURRENT_MODEL}: the storage",
        ),
    ],
)
def test_a_whole_command_waits_no_longer_than_its_setting(gcs_shop, gcs, fault, said):
    """From the opening of the bucket on, with the ingest, and with the requests of delta-rs."""
    gcs.faults.add(fault)
    settings = {
        "STORECAST_BUCKET": gcs_shop.storage.url,
        "STORECAST_LOOKBACK_DAYS": "84",
        "STORECAST_RUN__STORAGE_WAIT_SECONDS": str(WAIT),
    }
    began, spent = time.monotonic(), time.process_time()
    result = CliRunner().invoke(app, ["run", "--ingest", "--as-of", str(LAST)], env=settings)
    waited = time.monotonic() - began
    assert isinstance(result.exception, StorageError)
    assert said in str(result.exception)
    assert "http://" not in str(result.exception)
    assert waited < WAIT + CALL_SECONDS / 4 + 10 * (time.process_time() - spent)


@pytest.mark.parametrize("at", [0, None])
def test_an_answer_that_ends_early_is_asked_for_again(gcs_shop, gcs, at):
    for key in (keys.CURRENT_MODEL, gcs_shop.partition_files("s002")[0]):
        expected = gcs_shop.storage.read(key)
        fault = gcs.faults.add(Fault("truncate", key=key, op="get", at=at))
        assert gcs_shop.storage.read(key) == expected
        assert fault.fired == 1


@pytest.mark.parametrize("op", ["list", "get"])
def test_an_answer_to_delta_rs_that_ends_early_is_asked_for_again(gcs_shop, gcs, op):
    expected = delta.open_table(gcs_shop.storage, keys.BATCH_DATA).version()
    fault = gcs.faults.add(Fault("truncate", op=op, when=is_of_delta_rs))
    assert delta.open_table(gcs_shop.storage, keys.BATCH_DATA).version() == expected
    assert fault.fired == 1


def test_calls_that_wait_at_the_same_time_count_once_and_answers_do_not_count():
    patience = Patience()
    patience.limit("run", 100.0)
    for _ in range(3):
        patience._note(time.monotonic() - 10, 3.0, failed=True)
    assert 9.5 < patience.waited < 11
    assert patience.call_seconds() == 5.0
    with pytest.raises(NotFoundError), patience.call("k"):
        raise NotFoundError("k: there is no such object")
    assert patience.failures == 0
    assert patience.call_seconds() == CALL_SECONDS
    before = patience.waited
    patience.limit("run", 100.0)
    assert patience.waited == before
    patience.limit("next run", 100.0)
    assert patience.waited == 0


@pytest.mark.parametrize("at", [None, 1000])
def test_a_history_that_stalls_is_asked_for_by_the_other_client(gcs_shop, gcs, at):
    """Before its answer or within it: five seconds, not Arrow's two minutes."""
    gcs_shop.delete(keys.PACKS)
    [key] = gcs_shop.partition_files("s002")
    expected = gcs_shop.storage.read(key)
    fault = gcs.faults.add(Fault("stall", key=key, op="get", seconds=60.0, at=at))
    began = time.monotonic()
    assert gcs_shop.storage.read(key) == expected
    assert fault.fired == 1
    assert time.monotonic() - began < 45
    assert gcs_shop.run(LAST).exit_code == 0


def test_a_call_that_stalls_leaves_its_thread_and_the_next_one_works():
    watch, released = StallWatch(), threading.Event()
    with pytest.raises(StalledError):
        watch.call(lambda: b"late" if released.wait(30) else b"", 0.05)
    assert watch.call(lambda: b"next", 30.0) == b"next"
    released.set()
    assert watch.call(lambda: b"again", 30.0) == b"again"

    def fail():
        raise NotFoundError("k: there is no such object")

    with pytest.raises(NotFoundError):
        watch.call(fail, 30.0)


def test_a_read_that_stalls_is_given_again_on_a_new_connection(gcs_shop, gcs):
    """Ten seconds, not two minutes."""
    gcs.faults.add(Fault("stall", key="models/*", op="get", seconds=60.0))
    began = time.monotonic()
    assert gcs_shop.run(LAST).exit_code == 0
    assert time.monotonic() - began < 45
