"""Injected faults, as the real clients meet them."""

from __future__ import annotations

import io
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from google.api_core import exceptions
from google.cloud.storage.exceptions import DataCorruption

from tests.fake_gcs import Crash, FakeGcs, Fault
from tests.fake_gcs.clients import arrow_filesystem, storage_client
from tests.simulated_storage.asking import BODY, QUICK, append, drops_sockets, request, rows


@drops_sockets
@pytest.mark.parametrize("status", [503, 429, 408])
def test_a_transient_status_is_retried(gcs, bucket, status):
    gcs.put("b", "k", BODY)
    fault = gcs.faults.add(Fault("status", status=status, key="k", times=2, retry_after=1))
    assert bucket.blob("k").download_as_bytes(retry=QUICK) == BODY
    assert fault.fired == 2
    assert [entry.status for entry in gcs.log.select(key="k")] == [status, status, 200]


@drops_sockets
def test_a_refusal_is_not_retried(gcs, bucket):
    gcs.put("b", "k", BODY)
    gcs.faults.add(Fault("status", status=403, op="get", times=None))
    with pytest.raises(exceptions.Forbidden):
        bucket.blob("k").download_as_bytes(retry=QUICK)
    assert gcs.log.count(op="get") == 1
    assert bucket.blob("k").exists()


def test_an_answer_carries_retry_after(gcs):
    gcs.faults.add(Fault("status", status=429, retry_after=7))
    status, headers, _ = request(gcs, "/b/k")
    assert (status, headers["retry-after"]) == (429, "7")


def test_a_reset_does_nothing_and_is_retried(gcs, bucket):
    gcs.faults.add(Fault("reset", method="POST", key="k"))
    bucket.blob("k").upload_from_string(BODY, if_generation_match=0, retry=QUICK)
    assert gcs.get("b", "k") == BODY
    assert [entry.status for entry in gcs.log.select(key="k")] == [0, 200]


def test_the_nth_request_meets_the_fault(gcs):
    for key in ("a/1", "a/2", "c"):
        gcs.put("b", key, BODY)
    gcs.faults.add(Fault("status", status=503, key="a/*", nth=2, times=2))
    keys = ["a/1", "c", "a/2", "a/1", "c", "a/1"]
    statuses = [request(gcs, f"/b/{key}")[0] for key in keys]
    assert statuses == [200, 200, 503, 503, 200, 200]
    gcs.faults.add(Fault("status", status=500, when=lambda asked: "range" in asked.headers))
    assert request(gcs, "/b/c")[0] == 200
    assert request(gcs, "/b/c", Range="bytes=0-1")[0] == 500


def test_a_stall_delays_the_answer_or_the_middle_of_its_body(gcs, bucket):
    gcs.put("b", "k", BODY)
    for at in (None, 100):
        gcs.faults.add(Fault("stall", seconds=0.4, op="get", at=at))
        begun = time.monotonic()
        assert bucket.blob("k").download_as_bytes() == BODY
        assert time.monotonic() - begun > 0.3
    gcs.faults.add(Fault("stall", seconds=30, op="get"))
    begun = time.monotonic()
    assert bucket.blob("k").download_as_bytes(timeout=0.3, retry=QUICK) == BODY
    assert time.monotonic() - begun < 5


def test_a_stalled_server_stops_at_once():
    with ThreadPoolExecutor(1) as pool:
        with FakeGcs.serve("b") as gcs:
            gcs.faults.add(Fault("stall", seconds=60))
            waiting = pool.submit(request, gcs, "/b/k")
            while not gcs.faults.fired():
                time.sleep(0.01)
            begun = time.monotonic()
        assert time.monotonic() - begun < 5
        assert isinstance(waiting.exception(5), OSError)


@pytest.mark.parametrize("clean", [False, True])
def test_a_truncated_body_is_noticed_and_asked_for_again(gcs, bucket, clean):
    gcs.put("b", "k", BODY)
    fault = gcs.faults.add(Fault("truncate", op="get", at=99, clean=clean))
    assert bucket.blob("k").download_as_bytes(retry=QUICK) == BODY
    assert fault.fired == 1
    assert gcs.log.count(op="get") == 2


def test_a_cleanly_truncated_body_comes_with_the_true_checksum(gcs):
    gcs.put("b", "k", BODY)
    gcs.faults.add(Fault("truncate", clean=True))
    _, headers, body = request(gcs, "/b/k")
    assert (len(body), headers["content-length"]) == (len(BODY) // 2, str(len(BODY) // 2))
    assert gcs.stat("b", "k").crc32c in headers["x-goog-hash"]
    assert headers["x-goog-stored-content-length"] == str(len(BODY))


def test_a_corrupt_body_is_found_by_its_checksum(gcs, bucket):
    gcs.put("b", "k", BODY)
    gcs.faults.add(Fault("corrupt", op="get", at=3))
    with pytest.raises(DataCorruption):
        bucket.blob("k").download_as_bytes()
    gcs.faults.add(Fault("corrupt", op="get", at=3))
    body = request(gcs, "/b/k")[2]
    assert [n for n in range(len(BODY)) if body[n] != BODY[n]] == [3]


@pytest.mark.parametrize("status", [None, 503])
@pytest.mark.parametrize("chunk_size", [None, 256 << 10])
def test_a_lost_acknowledgement_leaves_the_write_done(gcs, bucket, status, chunk_size):
    body = BODY * 60
    gcs.faults.add(Fault("ack_lost", op="insert", key="k", status=status))
    blob = bucket.blob("k", chunk_size=chunk_size)
    if chunk_size is None:
        with pytest.raises(exceptions.PreconditionFailed):
            blob.upload_from_string(body, if_generation_match=0, retry=QUICK)
    else:
        blob.upload_from_file(io.BytesIO(body), if_generation_match=0, retry=QUICK)
        assert blob.generation == gcs.generation("b", "k")
    assert gcs.get("b", "k") == body


def test_arrow_and_delta_ride_out_transient_faults(gcs):
    append(gcs, [0])
    for kind in ("status", "reset"):
        gcs.faults.add(Fault(kind, status=503, op="get", key="table/*.parquet"))
        assert rows(gcs) == [0]
    gcs.put("b", "k", BODY)
    fs = arrow_filesystem(gcs.url)
    for fault in (Fault("status", status=503, op="get"), Fault("reset", op="get")):
        gcs.faults.add(fault)
        with fs.open_input_stream("b/k") as stream:
            assert stream.read() == BODY
        assert fault.fired == 1


def test_transient_faults_are_the_same_for_the_same_seed(gcs):
    gcs.put("b", "k", BODY)

    def statuses(seed):
        gcs.faults.transient(0.15, seed, [Fault("status", status=503)])
        return [request(gcs, "/b/k")[0] for _ in range(400)]

    first = statuses(1)
    assert 30 <= first.count(503) <= 90
    assert statuses(1) == first
    assert statuses(2) != first


@drops_sockets
def test_a_day_of_transient_faults_loses_nothing(gcs, bucket):
    gcs.faults.transient(0.15, seed=3)
    for number in range(60):
        blob = bucket.blob(f"k/{number}")
        blob.upload_from_string(b"%d" % number, if_generation_match=0, retry=QUICK)
        assert blob.download_as_bytes(retry=QUICK) == b"%d" % number
    assert len(gcs.keys("b", "k/")) == 60
    assert sum(entry.fault != "" for entry in gcs.log.entries) > 5


@pytest.mark.parametrize("moment", ["before_write", "after_write"])
def test_a_writer_that_crashes_writes_nothing_more(gcs, bucket, moment):
    for survived in range(3):
        done = []

        def crash(key, done=done, survived=survived):
            if len(done) == survived:
                raise Crash
            done.append(key)

        gcs.recover()
        setattr(gcs, moment, crash)
        for key in gcs.keys("b"):
            gcs.delete("b", key)
        for number in range(survived):
            bucket.blob(f"{number}").upload_from_string(b"", retry=QUICK)
        with pytest.raises(exceptions.BadRequest):
            bucket.blob(f"{survived}").upload_from_string(b"", retry=QUICK)
        with pytest.raises(exceptions.BadRequest):
            bucket.blob("receipt").upload_from_string(b"", retry=QUICK)
        landed = survived + (moment == "after_write")
        assert gcs.keys("b") == [f"{number}" for number in range(landed)]
    gcs.recover()
    bucket.blob("again").upload_from_string(b"")


def test_a_hook_may_race_the_writer_it_watches(gcs, bucket):
    """Another writer comes between a read and the write that depends on it."""
    generation = gcs.put("b", "pointer", b"old")
    gcs.before_write = lambda key: gcs.put("b", key, b"theirs")
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("pointer").upload_from_string(b"ours", if_generation_match=generation)
    assert gcs.get("b", "pointer") == b"theirs"


def test_without_the_token_or_for_denied_keys_everything_is_forbidden(gcs, bucket):
    gcs.put("b", "k", BODY)
    gcs.put("b", "secret/k", BODY)
    gcs.token = word = secrets.token_hex()
    with pytest.raises(exceptions.Forbidden):
        bucket.blob("k").download_as_bytes()
    with pytest.raises(exceptions.Forbidden):
        bucket.reload()
    gcs.denied = ["secret/*"]
    with storage_client(gcs.url, token=word) as known:
        assert known.bucket("b").blob("k").download_as_bytes() == BODY
        with pytest.raises(exceptions.Forbidden):
            known.bucket("b").blob("secret/k").download_as_bytes()
    with pytest.raises(PermissionError):
        arrow_filesystem(gcs.url).open_input_stream("b/k").read()


def test_a_delta_commit_whose_acknowledgement_is_lost_is_read_once(gcs):
    append(gcs, [0])
    fault = gcs.faults.add(Fault("ack_lost", op="insert", key="table/_delta_log/*1.json"))
    append(gcs, [1])
    assert fault.fired == 1
    assert rows(gcs) == [0, 1]


@pytest.mark.parametrize("fault", [Fault("corrupt", op="get"), Fault("truncate", clean=True)])
def test_arrow_refuses_a_whole_object_that_is_not_its_checksum_s(gcs, fault):
    gcs.put("b", "k", BODY)
    gcs.faults.add(replace(fault))
    fs = arrow_filesystem(gcs.url)
    with pytest.raises(OSError, match="mismatched hashes"):
        fs.open_input_stream("b/k").read()


@pytest.mark.parametrize(
    "fault",
    [
        Fault("ack_lost", op="insert"),
        Fault("reset", op="start"),
        Fault("reset", op="insert"),
        Fault("truncate", op="get"),
        Fault("status", op="start", status=429),
    ],
)
def test_arrow_mends_what_can_be_mended(gcs, fault):
    fault = gcs.faults.add(replace(fault))
    fs = arrow_filesystem(gcs.url)
    with fs.open_output_stream("b/k") as stream:
        stream.write(BODY * 100)
    with fs.open_input_stream("b/k") as stream:
        assert stream.read() == BODY * 100
    assert fault.fired == 1
