"""Damaged pointers, grants and releases of every shape leave what is served as it is."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.auth.grants import DENY_ALL, GrantsFile, compile_grants
from api.metrics import Metrics
from api.store.grants_keeper import GrantsKeeper
from api.store.local.copies import LocalCopies
from api.store.part_cache import PartCache
from api.store.refresh import Refresher
from api.store.release_loader import ReleaseLoader
from api.store.release_metrics import ReleaseCollector
from api.store.state import last_change, next_change
from api.store.storage_pool import Breaker
from api.views.forecasts import AnswerBasis
from ray_job.bucket import keys
from ray_job.bucket.errors import CorruptError
from ray_job.bucket.storage import open_bucket
from tests.api.fixtures.bucket import AS_OF, NOON, STORES, Bucket, StoreSpec
from tests.api.fixtures.tokens import ISSUER, write_grants

EARLIER = AS_OF - timedelta(days=1)
FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda values: (
        st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=8), values, max_size=3)
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A bucket with two releases and grants. No test may change it."""
    folder = tmp_path_factory.mktemp("original")
    bucket = Bucket.make(folder)
    bucket.publish([StoreSpec("1", as_of=EARLIER)], as_of=EARLIER)
    bucket.publish(STORES)
    write_grants(bucket.storage, {"subject": "anna", "stores": ["1"]})
    return folder


def refresher_of(bucket: Path, cache: Path) -> Refresher:
    storage, metrics = open_bucket(str(bucket)), Metrics()
    parts, copies = PartCache(storage, cache), LocalCopies(cache, "bucket")

    def clock() -> Any:
        return NOON

    loader = ReleaseLoader(storage, parts, copies, metrics, clock)
    grants = GrantsKeeper(copies, timedelta(hours=1))
    return Refresher(storage, loader, grants, Breaker(), metrics, clock)


@contextmanager
def serving(original: Path) -> Iterator[tuple[Refresher, Path]]:
    """A refresher that serves a copy of the bucket, and the copy's folder."""
    with tempfile.TemporaryDirectory() as name:
        bucket = Path(name, "bucket")
        shutil.copytree(original, bucket)
        refresher = refresher_of(bucket, Path(name, "cache"))
        asyncio.run(refresher.refresh())
        assert refresher.state.snapshot is not None
        yield refresher, bucket
        refresher.close()


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Other JSON, a value replaced or removed anywhere, bytes changed, or the end cut off."""
    kind = draw(st.sampled_from(["json", "value", "missing", "bytes", "cut", "deep"]))
    if kind == "json":
        return json.dumps(draw(JSON)).encode()
    if kind == "bytes":
        damaged_bytes = bytearray(data)
        for _ in range(draw(st.integers(1, 3))):
            damaged_bytes[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
        return bytes(damaged_bytes)
    if kind == "cut":
        return data[: draw(st.integers(0, len(data) - 1))]
    if kind == "deep":
        return b"[" * draw(st.sampled_from([1000, 200_000]))
    document = json.loads(data)
    holder = draw(st.sampled_from(list(holders(document))))
    place = draw(
        st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder)))
    )
    if kind == "missing":
        del holder[place]
    else:
        holder[place] = draw(JSON)
    return json.dumps(document).encode()


def holders(document: Any) -> Iterator[Any]:
    """Every object and list in a document that is not empty."""
    if isinstance(document, dict | list) and document:
        yield document
        for value in document.values() if isinstance(document, dict) else document:
            yield from holders(value)


@FEW
@given(data=st.data())
def test_a_damaged_pointer_of_any_shape_leaves_the_snapshot(original, data):
    with serving(original) as (refresher, bucket):
        before = refresher.state
        path = bucket / keys.POINTER
        content = data.draw(damaged(path.read_bytes()))
        path.write_bytes(content)
        asyncio.run(refresher.refresh())
        after = refresher.state
        assert after.snapshot is not None
        if after.refused is None:
            # What is served can be computed with.
            AnswerBasis.of(after, after.snapshot, NOON)
            assert last_change(after.schedule, NOON) <= NOON < next_change(after.schedule, NOON)
            assert max(after.snapshot.entry.published_at, NOON)
            collector = ReleaseCollector(lambda: after, lambda: None, lambda: NOON)
            assert list(collector.collect())
            return
        assert after.snapshot is before.snapshot
        assert after.pointer is before.pointer
        assert refresher._metrics.refresh_failures.labels("refused")._value.get() == 1
        assert refresher._metrics.refresh_failures.labels("unexpected")._value.get() == 0
        restarted = refresher_of(bucket, bucket.parent / "cache")
        asyncio.run(restarted.refresh())
        restarted.close()
        assert restarted.state.snapshot is not None
        assert restarted.state.snapshot.name == before.snapshot.name
        assert restarted.state.refused is not None


@FEW
@given(data=st.data())
def test_damaged_grants_of_any_shape_leave_the_last_ones_in_force(original, data):
    with serving(original) as (refresher, bucket):
        before = refresher.state
        path = bucket / keys.GRANTS
        content = data.draw(damaged(path.read_bytes()))
        path.write_bytes(content)
        asyncio.run(refresher.refresh())
        try:
            expected = compile_grants(GrantsFile.from_bytes(content, keys.GRANTS))
        except CorruptError:
            assert refresher.state.grants is before.grants
            assert refresher.state.grants_refused is not None
            assert before.grants.access(ISSUER, "anna", None).may_see("1")
        else:
            assert refresher.state.grants == expected
            assert refresher.state.grants_refused is None
        assert refresher._metrics.refresh_failures.labels("unexpected")._value.get() == 0
        assert refresher.state.snapshot is before.snapshot


@FEW
@given(data=st.data())
def test_a_damaged_release_or_part_is_not_served(original, data):
    with tempfile.TemporaryDirectory() as name:
        bucket = Path(name, "bucket")
        shutil.copytree(original, bucket)
        key = data.draw(
            st.sampled_from([keys.release(f"{AS_OF}-a"), keys.part(AS_OF, f"{AS_OF}-a0", 0)])
        )
        content = bytearray((bucket / key).read_bytes())
        cut = data.draw(st.none() | st.integers(0, len(content) - 1))
        if cut is None:
            place = data.draw(st.integers(0, len(content) - 1))
            content[place] ^= data.draw(st.integers(1, 255))
        (bucket / key).write_bytes(content[:cut])
        refresher = refresher_of(bucket, Path(name, "cache"))
        asyncio.run(refresher.refresh())
        refresher.close()
        assert refresher.state.snapshot is not None
        assert refresher.state.snapshot.entry.as_of == EARLIER
        assert refresher.state.refused is not None


def test_no_grants_deny_everybody(original):
    with serving(original) as (refresher, bucket):
        (bucket / keys.GRANTS).unlink()
        asyncio.run(refresher.refresh())
        assert refresher.state.grants is DENY_ALL
        assert refresher.state.grants_refused is None
