"""Stores of any size: the forecast does not depend on how the plan cuts them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ray_job import ingest, sample, settings
from ray_job.bucket import keys
from ray_job.bucket.errors import SettingsError
from ray_job.bucket.storage import Storage, open_bucket
from ray_job.data import delta
from ray_job.data.histories import open_histories
from ray_job.nightly.prepare import prepare
from ray_job.nightly.request import RunRequest
from ray_job.plan import Chunk
from ray_job.sample import files as sample_files
from ray_job.settings import Ingest, Plan
from tests.conftest import directory
from tests.support.shop import BIG, LAST, SETTINGS, Shop, midnight, objects

ITEMS = 40
SMALL = "s002"


@pytest.fixture
def unequal(tmp_path: Path) -> Shop:
    """Three stores. The first has forty items in many row groups."""
    storage = directory(tmp_path)
    for key, data in objects().items():
        if key.startswith("models/"):
            storage.write_unseen(key, data)
    spec = sample.SampleSpec(last_day=LAST, stores=3, days=100, big_store_items=ITEMS, seed=5)
    sample_files.write(sample.generate(spec), tmp_path / "bucket" / "raw_data", format="parquet")
    fine = SETTINGS.model_copy(update={"ingest": Ingest(row_group_rows=50)})
    ingest.ingest(storage, fine, now=midnight(LAST))
    return Shop(storage, fine)


def series_by_chunk(shop: Shop) -> list[int]:
    """For each part of the big store the number of its series."""
    references = shop.stores()[BIG]["parts"]
    return [reference["rows"] // SETTINGS.horizon for reference in references]


def forecast_again(shop: Shop, **limits: int) -> tuple[list[int], pa.Table]:
    """Forecast with other chunks: the series of the big store by chunk, and all rows."""
    cut = shop.having(plan=Plan(**limits))
    cut.run(force=True, now=midnight(LAST))
    return series_by_chunk(cut), cut.all_rows()


def planned_chunks(shop: Shop, **limits: int) -> list[Chunk]:
    cut = shop.having(plan=Plan(**limits)).settings
    run_plan = prepare(shop.storage, cut, RunRequest(as_of=LAST), midnight(LAST))
    return [planned.chunk for planned in run_plan.planned_chunks]


def test_cut_store_is_bit_identical_to_one_chunk_and_to_chunks_of_one_series(unequal, tmp_path):
    forecasts = {}
    for name, limits in {
        "uncut": {},
        "ranges": {"chunk_rows": 700},
        "one series": {"chunk_rows": 20},
    }.items():
        shutil.copytree(unequal.storage.url, tmp_path / name)
        copy = Shop(open_bucket(str(tmp_path / name)), unequal.settings)
        forecasts[name] = forecast_again(copy, **limits)
    assert forecasts["uncut"][0] == [ITEMS]
    assert 4 <= len(forecasts["ranges"][0]) < ITEMS
    assert forecasts["one series"][0] == [1] * ITEMS
    for _, rows in forecasts.values():
        assert rows.equals(forecasts["uncut"][1])


def test_item_with_more_rows_than_a_chunk_stays_whole(unequal):
    chunks = planned_chunks(unequal, chunk_rows=1)
    ranges = [chunk.items for chunk in chunks if chunk.store_ids == [BIG]]
    assert len(ranges) == ITEMS
    bounds = sorted(items.first for items in ranges if items.first is not None)
    assert bounds == sorted(items.end for items in ranges if items.end is not None)
    assert len(set(bounds)) == ITEMS - 1


def test_largest_chunks_come_first(unequal):
    sizes = [chunk.bytes for chunk in planned_chunks(unequal, chunk_rows=700)]
    assert sizes == sorted(sizes, reverse=True)


def test_ten_thousand_objects_in_one_store(shop):
    shop.run()
    before = shop.forecast(SMALL)
    [old] = [file for file in files(shop) if file["store_id"] == SMALL]
    rows = pq.read_table(Path(shop.storage.url, old["path"]))
    written = [write(shop.storage, SMALL, f"0-{k}", rows.slice(k, 1)) for k in range(rows.num_rows)]
    data = [shop.storage.read(delta.partition_key(file.path)) for file in written]
    repeated = []
    for number in range(len(written), 10_000):
        path = f"store_id={SMALL}/{number}.parquet"
        shop.storage.write_unseen(delta.partition_key(path), data[number % len(written)])
        repeated.append(replace(written[number % len(written)], path=path))
    commit(shop.storage, written + repeated, [removed(old)])
    shop.run(force=True)
    assert shop.stores()[SMALL]["outcome"] == "ok"
    after = shop.forecast(SMALL)
    assert after.equals(before)


def test_object_without_rows_changes_nothing(shop):
    shop.run()
    before = shop.forecast(SMALL)
    [old] = [file for file in files(shop) if file["store_id"] == SMALL]
    rows = pq.read_table(Path(shop.storage.url, old["path"]))
    commit(shop.storage, [write(shop.storage, SMALL, "empty", rows.slice(0, 0))])
    shop.run(force=True)
    assert shop.forecast(SMALL).equals(before)


def test_store_of_which_only_an_object_without_rows_is_there(shop):
    [old] = [file for file in files(shop) if file["store_id"] == SMALL]
    rows = pq.read_table(Path(shop.storage.url, old["path"]))
    commit(shop.storage, [write(shop.storage, SMALL, "empty", rows.slice(0, 0))], [removed(old)])
    shop.run(force=True)
    assert shop.stores()[SMALL]["outcome"] == "no_data"


@pytest.mark.parametrize("name", ["CHUNK_BYTES", "CHUNK_ROWS"])
@pytest.mark.parametrize("value", ["0", "-1"])
def test_chunk_size_below_one_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(f"STORECAST_PLAN__{name}", value)
    with pytest.raises(SettingsError, match=f"plan.{name.lower()}"):
        settings.load(None)


def files(shop: Shop) -> list[dict]:
    return open_histories(shop.storage).files.to_pylist()


def write(storage: Storage, store: str, name: str, rows: pa.Table) -> delta.DataFile:
    """A file of a store's history that no commit names yet."""
    sink = pa.BufferOutputStream()
    with delta.parquet_writer(sink, rows.schema) as writer:
        writer.write_table(rows)
    data = sink.getvalue().to_pybytes()
    path = f"store_id={store}/{name}.parquet"
    storage.write_unseen(delta.partition_key(path), data)
    days: dict[str, date | None] = pc.min_max(rows["date"]).as_py()
    return delta.DataFile(path, store, len(data), rows.num_rows, days["min"], days["max"], "", "")


def removed(file: dict) -> delta.DataFile:
    path = file["path"].removeprefix(f"{keys.BATCH_DATA}/")
    return delta.DataFile(path, file["store_id"], file["bytes"], file["rows"])


def commit(
    storage: Storage, added: list[delta.DataFile], removed_files: list[delta.DataFile] | None = None
) -> None:
    table = delta.open_table(storage, keys.BATCH_DATA)
    delta.commit(table, added, removed_files or [], now=midnight(LAST) - timedelta(hours=1))
