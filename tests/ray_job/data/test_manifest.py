"""The chain of manifests: the files of earlier ingests, and the times of deliveries."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_job.bucket import keys
from ray_job.bucket.errors import CorruptError
from ray_job.bucket.storage import open_bucket
from ray_job.data.manifest import (
    Entry,
    Manifest,
    delivery_times,
    is_in,
    newest_sales,
    read_past,
    write_manifest,
)

NOW = datetime(2026, 11, 23, 0, 5, tzinfo=UTC)


def entry(number):
    return Entry(f"raw_data/{number}.csv", f"g{number}", f"crc32c:{number}", number, "sales", 1, 1)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=40))
def test_everything_committed_and_nothing_else_is_known(ingests):
    """Each ingest is (does it commit, how many files)."""
    with TemporaryDirectory() as folder:
        storage = open_bucket(folder)
        version, committed, count = 0, [], 0
        written = []
        for commits, files in ingests:
            entries = [entry(count + number) for number in range(files)]
            count += files
            manifest = write_manifest(
                storage, read_past(storage, version), str(len(written)), entries, 0, NOW
            )
            written.append((manifest, commits))
            if commits:
                version = manifest.number
                committed += entries
        past = read_past(storage, version)
        assert set(past.files) == {entry.key for entry in committed}
        assert past.delivered == {entry.delivered for entry in committed}
        assert len(past.chain) <= max(1, len(ingests)).bit_length()
        assert [is_in(storage, version, manifest) for manifest, _ in written] == [
            commits for _, commits in written
        ]


def test_a_manifest_reads_as_it_was_written():
    with TemporaryDirectory() as folder:
        storage = open_bucket(folder)
        manifest = write_manifest(storage, read_past(storage, 0), "a", [entry(1)], 2, NOW)
        [path] = Path(folder).rglob("*.json")
        assert Manifest.from_json(keys.manifest(1), path.read_bytes()) == manifest


WRONG = (None, "x", -1, 1.5, [], {}, [1], {"a": 1}, [[]], "2026-13-45", 10**30)


def changed(document, value):
    """The document with this value in the place of each of its values, whatever its depth."""
    items = ()
    if isinstance(document, dict):
        items = document.items()
    elif isinstance(document, list):
        items = enumerate(document)
    for place, old in list(items):
        document[place] = value
        yield document
        document[place] = old
        for _ in changed(old, value):
            yield document


def test_a_manifest_of_wrong_types_is_damaged_and_never_read_in_circles():
    """Valid JSON that is none, in every place, and manifests that name each other."""
    with TemporaryDirectory() as folder:
        storage = open_bucket(folder)
        first = write_manifest(storage, read_past(storage, 0), "a", [entry(1)], 2, NOW)
        write_manifest(storage, read_past(storage, 1), "b", [entry(2)], 2, NOW)
        path = Path(folder, keys.manifest(2))
        document = json.loads(path.read_bytes())
        assert document["repeated"] or document["next"]
        tried = 0
        for value in (*WRONG, 2, 3):
            for odd in changed(document, value):
                path.write_text(json.dumps(odd))
                tried += 1
                with suppress(CorruptError):
                    read_past(storage, 2)
                with suppress(CorruptError):
                    is_in(storage, 2, first)
                with suppress(CorruptError):
                    newest_sales(storage, 2)
        assert tried > 300
        for data in (b"", b"[]", b"null", b"[" * 100_000, b"\xff\xfe", first.to_json()):
            path.write_bytes(data)
            with pytest.raises(CorruptError, match=f"^{keys.manifest(2)}: this is not a manifest"):
                read_past(storage, 2)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
moments = st.integers(0, 9).map(lambda number: BEGIN + number * MICROSECOND)


@given(
    st.dictionaries(st.text("abc", min_size=1), moments),
    st.sets(st.integers(-2, 12)),
    st.integers(0, 12),
)
def test_every_delivery_has_a_time_of_its_own_in_order(created, offsets, until):
    base = (BEGIN - EPOCH) // MICROSECOND
    taken = {base + offset for offset in offsets}
    now = BEGIN + until * MICROSECOND
    times = delivery_times(created, taken, now)
    order = sorted(created, key=lambda key: (created[key], key))
    assert list(times) == order
    assert sorted(times.values()) == list(times.values())
    assert len(set(times.values()) | taken) == len(times) + len(taken)
    for key, moment in created.items():
        assert times[key] >= (min(moment, now) - EPOCH) // MICROSECOND
        assert times[key] > max(taken, default=0)
    if times and not taken and until >= 9:
        assert min(times.values()) == (min(created.values()) - EPOCH) // MICROSECOND
