"""What engineers get: histories as a Dataset, forecasts and scores as tables."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import ray

from ray_job import storecast
from ray_job.bucket import keys
from ray_job.bucket.errors import CorruptError, InputError, NotFoundError
from ray_job.data.histories import open_histories
from tests.support.shop import BIG, LAST, STORES

pytestmark = [
    pytest.mark.usefixtures("local_ray"),
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Ray, about itself
]


@pytest.fixture(autouse=True)
def quiet():
    ray.data.DataContext.get_current().enable_progress_bars = False


def counted_by_duckdb(shop, days):
    """The same fold in SQL, over the same files."""
    paths = open_histories(shop.storage).files["path"].to_pylist()
    files = [f"{shop.storage.url}/{path}" for path in paths]
    first = LAST - timedelta(days=days - 1)
    query = (
        "SELECT count(*) FROM (SELECT DISTINCT store_id, item_id, date"
        " FROM read_parquet(?, hive_partitioning=true, union_by_name=true,"
        " hive_types={'store_id': VARCHAR}) WHERE date BETWEEN ? AND ?)"
    )
    with duckdb.connect() as connection:
        return connection.execute(query, [files, first, LAST]).fetchall()[0][0]


def test_it_counts_what_duckdb_counts(shop):
    dataset = storecast.histories(shop.storage.url, days=100)
    assert dataset.count() == counted_by_duckdb(shop, 100)


def test_a_row_is_an_observation(shop):
    dataset = storecast.histories(shop.storage.url, stores=[BIG, "s002"], days=10)
    table = pa.concat_tables(dataset.iter_batches(batch_format="pyarrow", batch_size=None))
    assert table.column_names[:4] == ["store_id", "item_id", "date", "sales"]
    assert {"open", "promo"} <= set(table.column_names)
    assert set(pc.unique(table["store_id"]).to_pylist()) == {BIG, "s002"}
    assert pc.min_max(table["date"]).as_py() == {"min": LAST - timedelta(days=9), "max": LAST}
    keys_of_rows = table.select(["store_id", "item_id", "date"])
    distinct = keys_of_rows.group_by(keys_of_rows.column_names).aggregate([]).num_rows
    assert distinct == table.num_rows
    store = table.filter(pc.equal(table["store_id"], "s002")).sort_by("date")
    assert store["sales"].to_pylist()[-1] > 0


def test_further_columns_can_be_chosen(shop):
    dataset = storecast.histories(shop.storage.url, stores=["s002"], days=1, columns=["promo"])
    assert dataset.schema().names == ["store_id", "item_id", "date", "sales", "promo"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"stores": ["nowhere"]}, "store 'nowhere' has no history"),
        ({"columns": ["tides"]}, "the histories have no column 'tides'; they have"),
        ({"days": 0}, "days = 0: give at least one day"),
    ],
)
def test_what_is_wrong_is_one_sentence(shop, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        storecast.histories(shop.storage.url, **arguments)


def test_a_bucket_without_histories(tmp_path):
    with pytest.raises(InputError, match="there are no histories; `storecast ingest`"):
        storecast.histories(str(tmp_path))


def test_a_vacuumed_file_is_named(shop):
    shop.delete(keys.PACKS)
    dataset = storecast.histories(shop.storage.url, stores=["s002"], days=10)
    [path, *_] = shop.partition_files("s002")
    Path(shop.storage.url, path).unlink()
    with pytest.raises(NotFoundError, match=f"{path}: there is no such object"):
        dataset.count()


def test_forecasts_are_those_of_the_release(shop):
    shop.run()
    table = storecast.forecasts(shop.storage.url)
    assert table.schema.equals(storecast.FORECASTS_SCHEMA)
    assert table.drop_columns(["as_of"]).equals(shop.all_rows())
    assert pc.unique(table["as_of"]).to_pylist() == [LAST]
    of_one_store = storecast.forecasts(shop.storage.url, as_of=LAST, stores=["s002"])
    assert of_one_store.num_rows == 7
    assert of_one_store.to_pandas()["predicted_sales"].gt(0).any()


def test_a_part_that_was_changed_is_refused(shop):
    shop.run()
    for key in shop.part_keys():
        path = Path(shop.storage.url, key)
        path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(CorruptError, match="sha256"):
        storecast.forecasts(shop.storage.url)


def test_forecasts_of_a_night_that_was_not_published(shop):
    with pytest.raises(InputError, match="nothing was published; `storecast run` publishes"):
        storecast.forecasts(shop.storage.url)
    shop.run()
    with pytest.raises(InputError, match="nothing was published as of 2020-01-01"):
        storecast.forecasts(shop.storage.url, as_of=date(2020, 1, 1))
    with pytest.raises(InputError, match="has no such store"):
        storecast.forecasts(shop.storage.url, stores=["nowhere"])


def test_scores_come_as_a_table(shop):
    with pytest.raises(InputError, match="no forecast was scored yet"):
        storecast.scores(shop.storage.url)
    shop.run(as_of=LAST - timedelta(days=1))
    shop.run()
    table = storecast.scores(shop.storage.url, days=7)
    assert pc.unique(table["target_date"]).to_pylist() == [LAST]
    assert set(table["store_id"].to_pylist()) <= set(STORES)
