"""The fake storage itself: its log, its listings, its life."""

from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from google.api_core import exceptions
from hypothesis import given
from hypothesis import strategies as st

from tests.fake_gcs import FakeGcs, Fault
from tests.fake_gcs.clients import storage_client
from tests.fake_gcs.objects import Store
from tests.simulated_storage.asking import BODY, request


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
    item_keys, prefixes, resume = [], [], ""
    while resume is not None:
        page = store.page("b", prefix=prefix, delimiter=delimiter, resume=resume, size=size)
        assert len(page.items) + len(page.prefixes) <= size
        item_keys += [item.key for item in page.items]
        prefixes += page.prefixes
        resume = page.resume
    assert prefixes == sorted(common)
    assert item_keys == [name for name in chosen if not folders or not rest[name][1]]
    assert store.keys("b", prefix) == chosen


def test_a_hundred_thousand_objects_are_listed_by_prefix(gcs):
    for number in range(100_000):
        gcs.put("b", f"batch_data/store_id={number * 7919 % 100_000}/p.parquet", b"x")
    path = "/storage/v1/b/b/o?prefix=batch_data/store_id=99&maxResults=1000"
    listing = json.loads(request(gcs, path)[2])
    assert len(listing["items"]) == 1000
    assert "nextPageToken" in listing
    assert len(gcs.keys("b", "batch_data/store_id=99")) == 1111


def test_an_unknown_request_is_refused_not_guessed(gcs):
    assert request(gcs, "/storage/v1/b/b/acl")[0] == 400
    assert request(gcs, "/storage/v2/b")[0] == 404
    assert request(gcs, "/storage/v1/b/b/o?matchGlob=*")[0] == 400


def test_googles_client_sends_nothing_in_the_background(gcs):
    """Such a request would arrive at any time, and meet a fault that is meant for another."""
    gcs.put("b", "k", BODY)
    with storage_client(gcs.url) as own:
        before = set(threading.enumerate())
        assert own.bucket("b").blob("k").download_as_bytes() == BODY
        with pytest.raises(exceptions.NotFound):
            own.bucket("b").blob("none").download_as_bytes()
        assert set(threading.enumerate()) <= before
    assert [entry.op for entry in gcs.log.entries] == ["get", "get"]


def test_a_request_for_another_bucket_meets_no_fault(gcs):
    fault = gcs.faults.add(Fault("status", status=429))
    assert request(gcs, "/other/k")[0] == 404
    assert request(gcs, "/readyz")[0] == 404
    assert fault.fired == 0
    assert request(gcs, "/b/k")[0] == 429


def test_a_request_from_before_a_reset_changes_nothing(gcs):
    gcs.faults.add(Fault("stall", op="insert", seconds=0.3))
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(request, gcs, "/b/k", "PUT", BODY)
        while not gcs.faults.fired():
            time.sleep(0.01)
        gcs.reset()
        gcs.create_bucket("b")
        assert isinstance(late.exception(10), OSError)
    assert gcs.keys("b") == []
    assert len(gcs.log) == 0


def test_no_port_is_used_twice():
    with FakeGcs.serve("b") as gcs:
        port = gcs.port
    with pytest.raises(ConnectionRefusedError), closing(socket.socket()) as client:
        client.connect(("127.0.0.1", port))
    with pytest.raises(OSError, match="in use"), closing(socket.socket()) as other:
        other.bind(("127.0.0.1", port))


def serving():
    return [thread for thread in threading.enumerate() if thread.name == "fake-gcs"]


def test_servers_start_and_stop_without_leaks():
    before = serving()
    for _ in range(5):
        with FakeGcs.serve("b") as gcs, closing(storage_client(gcs.url)) as own:
            own.bucket("b").blob("k").upload_from_string(BODY)
        assert serving() == before
