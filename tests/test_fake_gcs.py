"""The fake storage against the three real clients: what the other tests build on."""

from __future__ import annotations

import gc as garbage
import http.client
import io
import json
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from itertools import pairwise

import deltalake
import pyarrow as pa
import pyarrow.fs
import pytest
from google.api_core import exceptions
from google.api_core.retry import Retry
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption
from google.cloud.storage.retry import DEFAULT_RETRY
from hypothesis import given
from hypothesis import strategies as st

from tests.fake_gcs import Crash, FakeGcs, Fault, Refusal, spawned
from tests.fake_gcs.clients import arrow_filesystem, delta_options, storage_client
from tests.fake_gcs.objects import Store

QUICK: Retry = DEFAULT_RETRY.with_delay(initial=0.01, maximum=0.05).with_timeout(10)
BODY = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def served():
    with FakeGcs.serve() as gcs:
        yield gcs


@pytest.fixture
def gcs(served):
    served.reset()
    served.create_bucket("b")
    return served


@pytest.fixture
def drops_answers():
    """google-cloud-storage doesn't close the refusal of a download that it tries again."""
    yield
    garbage.collect()


def drops_sockets(test):
    quiet = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
    return pytest.mark.usefixtures("drops_answers")(quiet(test))


@pytest.fixture
def client(gcs):
    with storage_client(gcs.url) as client:
        yield client


@pytest.fixture
def bucket(client):
    return client.bucket("b")


def request(gcs, path, method="GET", body=None, **headers):
    """One request without a client's retries: status, headers, body."""
    with closing(http.client.HTTPConnection("127.0.0.1", gcs.port, timeout=5)) as connection:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


# --- google-cloud-storage --------------------------------------------------------------


def test_an_object_comes_back_with_its_generation_checksums_and_times(gcs, bucket):
    gcs.clock.set(datetime(2026, 11, 3, 0, 5, tzinfo=UTC))
    blob = bucket.blob("raw_data/a b/ü&?#%.csv")
    blob.upload_from_string(BODY, content_type="text/csv", checksum="crc32c")
    again = bucket.get_blob(blob.name)
    assert again.download_as_bytes(checksum="crc32c") == BODY
    assert again.download_as_bytes(checksum="md5") == BODY
    assert again.generation == gcs.generation("b", blob.name) == blob.generation
    assert (again.size, again.content_type) == (len(BODY), "text/csv")
    assert (again.crc32c, again.md5_hash) == (blob.crc32c, blob.md5_hash)
    assert again.time_created == again.updated == datetime(2026, 11, 3, 0, 5, tzinfo=UTC)
    gcs.clock.advance(timedelta(days=7))
    again.metadata = {"made-by": "a test"}
    again.patch()
    assert (again.metageneration, again.generation) == (2, blob.generation)
    assert again.updated - again.time_created == timedelta(days=7)


def test_ranges_and_generations_are_read(gcs, bucket):
    blob = bucket.blob("k")
    gcs.put("b", "k", b"0123456789")
    assert blob.download_as_bytes(start=2, end=4) == b"234"
    assert blob.download_as_bytes(start=7) == b"789"
    assert blob.download_as_bytes(start=-3) == b"789"
    with pytest.raises(exceptions.RequestRangeNotSatisfiable):
        blob.download_as_bytes(start=10)
    old = gcs.generation("b", "k")
    new = gcs.put("b", "k", b"new")
    assert new > old
    assert bucket.blob("k", generation=new).download_as_bytes() == b"new"
    with pytest.raises(exceptions.NotFound):
        bucket.blob("k", generation=old).download_as_bytes()


def test_what_is_not_there_is_not_found(client, bucket):
    assert bucket.exists()
    assert not client.bucket("other").exists()
    assert not bucket.blob("none").exists()
    for call in (
        bucket.blob("none").download_as_bytes,
        bucket.blob("none").reload,
        bucket.blob("none").delete,
        client.bucket("other").reload,
        lambda: list(client.list_blobs("other")),
        lambda: client.bucket("other").blob("k").upload_from_string(b""),
    ):
        with pytest.raises(exceptions.NotFound):
            call()


def test_preconditions_are_kept(gcs, bucket):
    blob = bucket.blob("k")
    blob.upload_from_string(b"1", if_generation_match=0)
    first = blob.generation
    with pytest.raises(exceptions.PreconditionFailed):
        blob.upload_from_string(b"2", if_generation_match=0)
    blob.upload_from_string(b"2", if_generation_match=first, if_metageneration_match=1)
    for refused in (
        {"if_generation_match": first},
        {"if_generation_not_match": blob.generation},
        {"if_metageneration_match": 2},
    ):
        with pytest.raises(exceptions.PreconditionFailed):
            blob.upload_from_string(b"3", **refused)
        with pytest.raises((exceptions.PreconditionFailed, exceptions.NotModified)):
            bucket.blob("k").reload(**refused)
    with pytest.raises(exceptions.NotModified):
        bucket.blob("k").download_as_bytes(if_generation_not_match=blob.generation)
    with pytest.raises(exceptions.PreconditionFailed):
        blob.delete(if_generation_match=first)
    assert gcs.get("b", "k") == b"2"
    bucket.blob("k").delete(if_generation_match=blob.generation)
    assert gcs.keys("b") == []
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("k").upload_from_string(b"4", if_generation_not_match=0)


@pytest.mark.parametrize("start", [0, None])
def test_of_sixteen_racing_writers_one_wins(gcs, start):
    expected = 0 if start == 0 else gcs.put("b", "pointer", b"before")
    barrier = threading.Barrier(16)

    def write(number):
        with storage_client(gcs.url) as own:
            blob = own.bucket("b").blob("pointer")
            barrier.wait()
            try:
                blob.upload_from_string(b"%d" % number, if_generation_match=expected)
            except exceptions.PreconditionFailed:
                return None
            return number

    with ThreadPoolExecutor(16) as pool:
        winners = [number for number in pool.map(write, range(16)) if number is not None]
    assert len(winners) == 1
    assert gcs.get("b", "pointer") == b"%d" % winners[0]


def test_listings_page_beyond_a_thousand(gcs, client):
    names = [f"p/{n % 7}/{n:05}" for n in range(2500)]
    for name in names:
        gcs.put("b", name, b"")
    gcs.put("b", "q", b"")
    assert [blob.name for blob in client.list_blobs("b", prefix="p/")] == sorted(names)
    assert gcs.log.count(op="list") == 3
    some = client.list_blobs("b", prefix="p/", start_offset="p/3", end_offset="p/5", max_results=9)
    assert [blob.name for blob in some] == [n for n in sorted(names) if n >= "p/3"][:9]
    folders = client.list_blobs("b", delimiter="/", page_size=1)
    assert [blob.name for blob in folders] == ["q"]
    assert folders.prefixes == {"p/"}
    gcs.set_page_size(3)
    folders = client.list_blobs("b", prefix="p/", delimiter="/")
    assert list(folders) == []
    assert folders.prefixes == {f"p/{n}/" for n in range(7)}


def test_a_listing_holds_only_the_fields_asked_for(gcs, client):
    gcs.put("b", "k", BODY)
    (blob,) = client.list_blobs("b", fields="items(name,generation),nextPageToken")
    assert blob.generation == gcs.generation("b", "k")
    assert blob.size is None


def test_a_resumable_upload_of_many_chunks_is_one_object(gcs, bucket):
    body = BODY * 1024 + b"the end"
    assert len(body) > 8 << 20
    blob = bucket.blob("big", chunk_size=1 << 20)
    with pytest.raises(exceptions.PreconditionFailed):
        blob.upload_from_file(io.BytesIO(body), if_generation_match=7)
    blob.upload_from_file(io.BytesIO(body), if_generation_match=0)
    assert gcs.get("b", "big") == body
    assert gcs.log.count(op="part", key="big") == 10
    assert gcs.log.count(op="insert", key="big") == 1
    assert blob.download_as_bytes() == body
    assert gcs.uploads.pending() == 0


def test_an_object_of_unknown_length_is_written_as_a_stream(gcs, bucket):
    with bucket.blob("stream").open("wb", chunk_size=256 << 10) as stream:
        for _ in range(100):
            stream.write(BODY)
    assert gcs.get("b", "stream") == BODY * 100


def test_bytes_that_do_not_fit_their_checksum_are_refused(gcs, bucket):
    blob = bucket.blob("k")
    blob.crc32c = "AAAAAA=="
    with pytest.raises(exceptions.BadRequest):
        blob.upload_from_string(BODY, checksum=None)
    assert gcs.keys("b") == []


def test_copies_compositions_and_batches(gcs, client, bucket):
    gcs.put("b", "one", b"1")
    gcs.put("b", "two", b"2")
    bucket.copy_blob(bucket.blob("one"), bucket, "copied")
    bucket.blob("rewritten").rewrite(bucket.blob("two"), if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("rewritten").rewrite(bucket.blob("one"), if_generation_match=0)
    bucket.blob("both").compose([bucket.blob("one"), bucket.blob("two")])
    assert bucket.get_blob("both").component_count == 2
    assert bucket.get_blob("both").md5_hash is None
    bucket.move_blob(bucket.blob("one"), "moved")
    assert gcs.snapshot("b") == {
        "both": b"12",
        "copied": b"1",
        "moved": b"1",
        "rewritten": b"2",
        "two": b"2",
    }
    with client.batch():
        bucket.delete_blob("copied")
        bucket.delete_blob("moved")
    assert gcs.keys("b") == ["both", "rewritten", "two"]
    with pytest.raises(exceptions.NotFound), client.batch():
        bucket.delete_blob("none")


def test_buckets_are_made_listed_and_dropped(gcs, client):
    client.create_bucket("new")
    with pytest.raises(exceptions.Conflict):
        client.create_bucket("new")
    assert {found.name for found in client.list_buckets()} == {"b", "new"}
    client.bucket("new").delete()
    with pytest.raises(Refusal):
        gcs.keys("new")


def test_the_emulator_variable_leads_to_the_fake(gcs, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
    with closing(storage.Client(project="test")) as found:
        assert found.bucket("b").exists()


# --- pyarrow ---------------------------------------------------------------------------


def test_arrow_writes_reads_lists_and_deletes(gcs):
    fs = arrow_filesystem(gcs.url)
    body = BODY * 300
    with fs.open_output_stream("b/d/big") as stream:
        stream.write(body)
    with fs.open_output_stream("b/d/small") as stream:
        stream.write(b"small")
    assert gcs.snapshot("b") == {"d/big": body, "d/small": b"small"}
    with fs.open_input_stream("b/d/big") as stream:
        assert stream.read() == body
    found = fs.get_file_info(pyarrow.fs.FileSelector("b/d", recursive=True))
    assert {(info.path, info.size) for info in found} == {("b/d/big", len(body)), ("b/d/small", 5)}
    one, none = fs.get_file_info(["b/d/small", "b/d/none"])
    assert (one.type, none.type) == (pyarrow.fs.FileType.File, pyarrow.fs.FileType.NotFound)
    fs.delete_file("b/d/small")
    fs.copy_file("b/d/big", "b/d/copy")
    fs.move("b/d/big", "b/d/moved")
    assert gcs.keys("b") == ["d/copy", "d/moved"]
    with pytest.raises(FileNotFoundError):
        fs.open_input_stream("b/d/none")
    with pytest.raises(FileNotFoundError):
        fs.open_output_stream("other/k").close()


def test_a_process_of_its_own_serves_files_to_arrow(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "k").write_bytes(BODY)
    with spawned("b", directory=tmp_path, latency_ms=1) as url:
        fs = arrow_filesystem(url)
        with fs.open_input_file("b/d/k") as file:
            assert file.size() == len(BODY)
            assert file.read_at(10, 256) == BODY[:10]
        with storage_client(url) as own:
            assert [blob.name for blob in own.list_blobs("b")] == ["d/k"]


# --- delta-rs --------------------------------------------------------------------------


def append(gcs, numbers):
    deltalake.write_deltalake(
        "gs://b/table",
        pa.table({"n": pa.array(numbers, pa.int64())}),
        mode="append",
        storage_options=delta_options(gcs.url),
    )


def rows(gcs):
    table = deltalake.DeltaTable("gs://b/table", storage_options=delta_options(gcs.url))
    return sorted(table.to_pyarrow_table()["n"].to_pylist())


def test_of_eight_racing_delta_writers_none_is_lost(gcs):
    append(gcs, [-1])
    barrier = threading.Barrier(8)

    def write(number):
        barrier.wait()
        append(gcs, [number])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert rows(gcs) == list(range(-1, 8))
    assert len(gcs.keys("b", "table/_delta_log/")) == 9
    assert gcs.log.count(op="insert", key="table/_delta_log/*.json", status=412) > 0


def test_delta_tables_are_compacted_vacuumed_and_checkpointed(gcs):
    for number in range(4):
        append(gcs, [number])
    table = deltalake.DeltaTable("gs://b/table", storage_options=delta_options(gcs.url))
    table.optimize.compact()
    removed = table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    assert len(removed) == 4
    table.create_checkpoint()
    assert rows(gcs) == [0, 1, 2, 3]
    assert "table/_delta_log/_last_checkpoint" in gcs.keys("b")


def test_delta_lists_a_log_of_many_pages(gcs):
    gcs.set_page_size(2)
    for number in range(6):
        append(gcs, [number])
    assert rows(gcs) == list(range(6))


def test_delta_uploads_a_big_file_in_parts(gcs):
    count = 2_000_000
    append(gcs, pa.array(range(count)).take(pa.array([(n * 7919) % count for n in range(count)])))
    assert gcs.log.count(op="start", key="table/*.parquet") == 1
    assert gcs.log.count(op="part", key="table/*.parquet") > 1
    assert gcs.uploads.pending() == 0
    assert len(rows(gcs)) == count


def test_the_xml_api_copies_with_and_without_a_condition(gcs):
    gcs.put("b", "one", b"1")
    source = {"x-goog-copy-source": "b/one", "Content-Length": "0"}
    never = {**source, "x-goog-if-generation-match": "0"}
    assert request(gcs, "/b/two", "PUT", b"", **never)[0] == HTTPStatus.OK
    assert request(gcs, "/b/two", "PUT", b"", **never)[0] == HTTPStatus.PRECONDITION_FAILED
    assert request(gcs, "/b/two", "PUT", b"", **source)[0] == HTTPStatus.OK
    assert gcs.get("b", "two") == b"1"
    status, headers, body = request(gcs, "/b/two", "HEAD")
    assert (status, headers["content-length"], body) == (HTTPStatus.OK, "1", b"")
    status, _, body = request(gcs, "/b/none")
    assert (status, b"<Code>NoSuchKey</Code>" in body) == (HTTPStatus.NOT_FOUND, True)


# --- faults ----------------------------------------------------------------------------


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


# --- the fake itself -------------------------------------------------------------------


def test_the_log_counts_requests_and_bytes(gcs):
    request(gcs, "/b/k", "PUT", BODY)
    request(gcs, "/b/k", Range="bytes=0-9")
    request(gcs, "/storage/v1/b/b/o?prefix=k")
    put, get, listing = gcs.log.entries
    assert (put.op, put.key, put.received, put.status) == ("insert", "k", len(BODY), 200)
    assert (get.op, get.sent, get.status) == ("get", 10, 206)
    assert (listing.op, listing.query) == ("list", {"prefix": "k"})
    assert gcs.log.count(method="P*", key="*k", status=200) == 1
    gcs.log.clear()
    assert len(gcs.log) == 0


def test_latency_is_added_to_every_request(gcs):
    gcs.latency = 0.1
    begun = time.monotonic()
    request(gcs, "/b/k")
    assert time.monotonic() - begun >= 0.1


def test_generations_grow_and_are_not_dense(gcs):
    generations = [gcs.put("b", "k", b"") for _ in range(50)]
    assert generations == sorted(set(generations))
    assert max(later - earlier for earlier, later in pairwise(generations)) > 1000
    gcs.delete("b", "k")
    assert gcs.put("b", "k", b"") not in generations


NAMES = st.text("ab/", min_size=1, max_size=5)


@given(st.sets(NAMES, max_size=30), st.text("ab/", max_size=2), st.integers(1, 4), st.booleans())
def test_pages_add_up_to_the_whole_listing(names, prefix, size, folders):
    store = Store(lambda: datetime(2026, 11, 3, tzinfo=UTC))
    store.create_bucket("b")
    for name in names:
        store.put("b", name, b"")
    chosen = sorted(name for name in names if name.startswith(prefix))
    delimiter = "/" if folders else ""
    rest = {name: name[len(prefix) :].partition("/") for name in chosen if folders}
    common = {prefix + first + cut for first, cut, _ in rest.values() if cut}
    found, prefixes, resume = [], [], ""
    while resume is not None:
        page = store.page("b", prefix=prefix, delimiter=delimiter, resume=resume, size=size)
        assert len(page.items) + len(page.prefixes) <= size
        found += [item.key for item in page.items]
        prefixes += page.prefixes
        resume = page.resume
    assert prefixes == sorted(common)
    assert found == [name for name in chosen if not folders or not rest[name][1]]
    assert store.keys("b", prefix) == chosen


def test_a_hundred_thousand_objects_are_listed_by_prefix(gcs):
    begun = time.monotonic()
    for number in range(100_000):
        gcs.put("b", f"batch_data/store_id={number * 7919 % 100_000}/p.parquet", b"x")
    assert time.monotonic() - begun < 20
    path = "/storage/v1/b/b/o?prefix=batch_data/store_id=99&maxResults=1000"
    begun = time.monotonic()
    listing = json.loads(request(gcs, path)[2])
    assert time.monotonic() - begun < 1
    assert len(listing["items"]) == 1000
    assert "nextPageToken" in listing
    assert len(gcs.keys("b", "batch_data/store_id=99")) == 1111


def test_an_unknown_request_is_refused_not_guessed(gcs):
    assert request(gcs, "/storage/v1/b/b/acl")[0] == 400
    assert request(gcs, "/storage/v2/b")[0] == 404
    assert request(gcs, "/storage/v1/b/b/o?matchGlob=*")[0] == 400


def serving():
    return [thread for thread in threading.enumerate() if thread.name == "fake-gcs"]


def test_servers_start_and_stop_without_leaks():
    before = serving()
    for _ in range(5):
        with FakeGcs.serve("b") as gcs, closing(storage_client(gcs.url)) as own:
            own.bucket("b").blob("k").upload_from_string(BODY)
        assert serving() == before
