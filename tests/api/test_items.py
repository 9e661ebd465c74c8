"""Items of a store that was cut over several parts, page by page."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api import items
from api.parts import PartCache
from api.snapshot import PartRange, StoreForecast
from ray_job.bucket import parts
from ray_job.bucket.errors import CorruptError
from ray_job.bucket.storage import open_bucket
from tests.api.bucket import AS_OF, HORIZON, StoreSpec, part_table

NAMES = tuple(f"{number:02d}" for number in range(11))


@pytest.fixture(scope="module")
def cut(tmp_path_factory) -> tuple[PartCache, StoreForecast]:
    """Items 06 to 10 in the part that is named first, 00 to 05 in the second."""
    folder = tmp_path_factory.mktemp("bucket")
    storage = open_bucket(str(folder))
    ranges = []
    for key, names in (("later", NAMES[6:]), ("earlier", NAMES[:6])):
        specs = [StoreSpec("0", items=("x",)), StoreSpec("1", items=names)]
        data = parts.encode(part_table(specs), parts.OUTCOME_SCHEMA.empty_table(), key)
        storage.create(key, data)
        rows = len(names) * HORIZON
        ranges.append(PartRange(key, parts.sha256(data), HORIZON, rows))
    store = StoreForecast(
        store_id="1",
        outcome="ok",
        reason_code=None,
        reason=None,
        expected=True,
        as_of=AS_OF,
        generated_at=None,
        data_through=AS_OF,
        run_id=None,
        model_version=None,
        carried_since=None,
        last_target_date=None,
        items=len(NAMES),
        days=(),
        parts=tuple(ranges),
        description={},
    )
    return PartCache(storage, folder / "cache"), store


@settings(deadline=None)
@given(size=st.integers(1, 15))
def test_pages_are_the_whole_in_order(cut, size):
    cache, store = cut
    seen: list[str] = []
    row: int | None = 0
    while row is not None:
        page = items.page(cache, store, row, size)
        assert 1 <= len(page.items) <= size
        assert all(len(item.days) == HORIZON for item in page.items)
        seen += [item.item_id for item in page.items]
        row = page.next_row
    assert tuple(seen) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_one_item_of_either_part(cut, name):
    cache, store = cut
    found = items.one(cache, replace(store, days=(None,) * HORIZON), name)  # type: ignore[arg-type]
    assert found is not None
    assert [day.target_date for day in found.days] == [
        AS_OF + timedelta(days=ahead) for ahead in range(1, HORIZON + 1)
    ]
    assert isinstance(found.days[0].target_date, date)


def test_a_range_beyond_the_part(cut):
    cache, store = cut
    for change in ({"rows": 10_000}, {"first_row": -1}, {"first_row": 0}):
        with pytest.raises(CorruptError):
            items.page(cache, replace(store, parts=(replace(store.parts[0], **change),)), 0, 5)


def test_a_store_without_parts(cut):
    cache, store = cut
    assert items.page(cache, replace(store, parts=()), 0, 5) == items.NO_ITEMS
    assert items.one(cache, replace(store, parts=()), "x") is None
