"""Items of a store whose rows are in several parts."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.store.items import NO_ITEMS, find_item, item_page
from api.store.part_cache import PartCache
from api.store.snapshot import PartRange, StoreForecast
from ray_job.bucket import parts
from ray_job.bucket.errors import CorruptError
from ray_job.bucket.storage import open_bucket
from tests.api.fixtures.bucket import AS_OF, HORIZON, StoreSpec, part_table

NAMES = tuple(f"{number:02d}" for number in range(11))


@pytest.fixture(scope="module")
def split_store(tmp_path_factory) -> tuple[PartCache, StoreForecast]:
    """Items 06 to 10 are in the first part, items 00 to 05 in the second."""
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
def test_pages_hold_all_items_in_order(split_store, size):
    cache, store = split_store
    item_ids: list[str] = []
    row: int | None = 0
    while row is not None:
        page = item_page(cache, store, row, size)
        assert 1 <= len(page.items) <= size
        assert all(len(item.days) == HORIZON for item in page.items)
        item_ids += [item.item_id for item in page.items]
        row = page.next_row
    assert tuple(item_ids) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_item_of_each_part(split_store, name):
    cache, store = split_store
    item = find_item(cache, replace(store, days=(None,) * HORIZON), name)  # type: ignore[arg-type]
    assert item is not None
    assert [day.target_date for day in item.days] == [
        AS_OF + timedelta(days=ahead) for ahead in range(1, HORIZON + 1)
    ]
    assert isinstance(item.days[0].target_date, date)


def test_a_range_outside_of_the_part(split_store):
    cache, store = split_store
    for change in ({"rows": 10_000}, {"first_row": -1}, {"first_row": 0}):
        with pytest.raises(CorruptError):
            item_page(cache, replace(store, parts=(replace(store.parts[0], **change),)), 0, 5)


def test_a_store_without_parts(split_store):
    cache, store = split_store
    assert item_page(cache, replace(store, parts=()), 0, 5) == NO_ITEMS
    assert find_item(cache, replace(store, parts=()), "x") is None
