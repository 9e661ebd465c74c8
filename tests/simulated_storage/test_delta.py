"""delta-rs against the fake storage."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import deltalake
import pyarrow as pa
import pyarrow.fs

from tests.fake_gcs.clients import delta_options
from tests.simulated_storage.asking import append, request, rows


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
