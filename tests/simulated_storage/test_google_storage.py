"""google-cloud-storage against the fake storage."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from google.api_core import exceptions
from google.cloud import storage

from tests.fake_gcs import Refusal
from tests.fake_gcs.clients import storage_client
from tests.simulated_storage.asking import BODY


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
    assert {bucket.name for bucket in client.list_buckets()} == {"b", "new"}
    client.bucket("new").delete()
    with pytest.raises(Refusal):
        gcs.keys("new")


def test_the_emulator_variable_leads_to_the_fake(gcs, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
    with closing(storage.Client(project="test")) as opened:
        assert opened.bucket("b").exists()
