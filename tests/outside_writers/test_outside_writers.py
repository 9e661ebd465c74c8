"""Histories that others write: Spark's own tables, delta-rs, Polars, any type that Arrow has."""

import datetime as dt
import importlib.util
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from ray_job import ingest
from ray_job.bucket import keys
from ray_job.bucket.errors import InputError
from ray_job.bucket.storage import open_bucket
from ray_job.data import delta, partition
from ray_job.data.delta_log.table_features import TableFeatures
from ray_job.data.histories import open_histories
from ray_job.data.observations import observations
from ray_job.ingest import CompactScope, compact
from ray_job.operations.clean_up import clean_up
from ray_job.plan import ItemRange
from ray_job.settings import Ingest, Settings
from tests.support.archives import extract
from tests.support.shop import DAY, LAST, midnight, sales_row

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "writing-from-outside.md"
PLAIN = Settings(time_zone="Europe/Berlin")
D26, D27, D29 = (dt.date(2026, 3, day) for day in (26, 27, 29))
EXPECTED = {
    ("1", "a", D26): 5.0,
    ("1", "a", D27): 6.0,  # the row without a time is older
    ("1", "", D27): 3.0,
    ("2", "b", D27): 3.0,  # both rows add
    ("3", "c", D27): 4.0,  # after the merge; the 28th was deleted
    ("3", "c", D29): 2.0,
}


def spark_bucket(tmp_path, name):
    """A bucket whose histories are a table that Spark wrote."""
    extract((HERE / "spark-tables.tar.gz").read_bytes(), tmp_path)
    (tmp_path / name).rename(tmp_path / keys.BATCH_DATA)
    return open_bucket(str(tmp_path))


def sold(storage):
    """The sales of each (store, item, date) as a run reads them."""
    histories = open_histories(storage)
    by_store: dict[str, list[str]] = {}
    for file in histories.files.to_pylist():
        by_store.setdefault(file["store_id"], []).append(file["path"])
    stores = [
        (store, partition.read_store(storage, paths, partition.Columns()))
        for store, paths in sorted(by_store.items())
    ]
    rows = observations(stores, (), (), dt.date(2020, 1, 1), dt.date(2027, 1, 1)).to_pylist()
    return {
        (row["store_id"], row["item_id"], row["date"]): row["sales"]
        for row in rows
        if row["sales"] is not None
    }


@pytest.mark.parametrize("name", ["plain", "row_tracking"])
def test_tables_of_spark_are_read_with_what_its_commits_say(tmp_path, name):
    storage = spark_bucket(tmp_path, name)
    assert sold(storage) == EXPECTED
    histories = open_histories(storage)
    assert histories.newest_sales == D29
    assert histories.foreign_files.count == 0  # the log has named what it removed


@pytest.mark.parametrize(
    ("name", "feature"),
    [("deletion_vectors", "deletionVectors"), ("column_mapping", "columnMapping")],
)
def test_features_that_would_give_wrong_rows_are_refused_by_name(tmp_path, name, feature):
    storage = spark_bucket(tmp_path, name)
    with pytest.raises(InputError, match=f"batch_data: the table uses the feature {feature} "):
        open_histories(storage)
    storage.create(f"{keys.RAW_DATA}sales.csv", b"store_id,date,sales\n1,2026-03-30,4\n")
    before = DeltaTable(str(tmp_path / keys.BATCH_DATA)).version()
    with pytest.raises(InputError, match=feature):
        ingest.ingest(storage, PLAIN, now=midnight(D29 + 3 * DAY))
    assert DeltaTable(str(tmp_path / keys.BATCH_DATA)).version() == before


def test_a_checkpoint_of_version_2_is_read_or_refused_but_never_passed_over(tmp_path):
    storage = spark_bucket(tmp_path, "version_2_checkpoint")
    assert sold(storage) == EXPECTED


@pytest.mark.parametrize(
    ("name", "feature"), [("append_only", "appendOnly"), ("row_tracking", "rowTracking")]
)
def test_rules_that_an_ingest_would_break_are_refused_by_name(tmp_path, name, feature):
    storage = spark_bucket(tmp_path, name)
    assert open_histories(storage).store_ids == ["1", "2", "3"]
    storage.create(f"{keys.RAW_DATA}sales.csv", b"store_id,date,sales\n1,2026-03-30,4\n")
    with pytest.raises(InputError, match=f"feature {feature} .*cannot be written"):
        ingest.ingest(storage, PLAIN, now=midnight(D29 + 3 * DAY))


def test_an_ingest_goes_on_with_a_table_of_spark(tmp_path):
    storage = spark_bucket(tmp_path, "plain")
    later = midnight(D29 + 3 * DAY)
    storage.create(f"{keys.RAW_DATA}a.csv", b"store_id,item_id,date,sales\n1,a,2026-03-27,60\n")
    ingest.ingest(storage, PLAIN, now=later)
    assert sold(storage) == EXPECTED | {("1", "a", D27): 60.0}
    clean_up(storage, later + 400 * DAY)
    assert sold(storage) == EXPECTED | {("1", "a", D27): 60.0}
    replaced = tmp_path / "b.csv"
    replaced.write_text("store_id,item_id,date,sales\n2,b,2026-03-27,7\n")
    ingest.ingest(storage, PLAIN, [replaced], replace=True, now=later)
    assert sold(storage)["2", "b", D27] == 7.0


@pytest.mark.parametrize(
    ("feature", "features"),
    [
        ("futureReads", TableFeatures(3, 7, ["futureReads"], ["futureReads"])),
        ("variantType", TableFeatures(3, 7, ["variantType"], [], schema='{"type":"variant"}')),
        ("typeWidening", TableFeatures(3, 7, ["typeWidening"], [], schema='"delta.typeChanges"')),
        ("columnMapping", TableFeatures(2, 5, properties={"delta.columnMapping.mode": "id"})),
        ("reader version 4", TableFeatures(4, 8)),
    ],
)
def test_reader_features(feature, features):
    with pytest.raises(InputError, match=f"the table uses the feature {feature} .*cannot be read"):
        features.check_readable("batch_data")


@pytest.mark.parametrize(
    ("feature", "features"),
    [
        ("futureWrites", TableFeatures(1, 7, [], ["futureWrites"])),
        ("appendOnly", TableFeatures(properties={"delta.appendOnly": "true"})),
        ("checkConstraints", TableFeatures(1, 3, properties={"delta.constraints.x": "sales > 0"})),
        ("changeDataFeed", TableFeatures(1, 4, properties={"delta.enableChangeDataFeed": "True"})),
        ("generatedColumns", TableFeatures(1, 4, schema='{"delta.generationExpression":"1"}')),
        ("identityColumns", TableFeatures(1, 6, schema='{"delta.identity.start":1}')),
        ("writer version 8", TableFeatures(1, 8)),
    ],
)
def test_writer_features(feature, features):
    features.check_readable("batch_data")
    with pytest.raises(InputError, match=f"the table uses the feature {feature} .*be written"):
        features.check_writable("batch_data")


def test_features_that_are_listed_and_not_used_are_no_reason():
    listed = ["deletionVectors", "columnMapping", "timestampNtz", "v2Checkpoint", "variantType"]
    features = TableFeatures(3, 7, listed, [*listed, "appendOnly", "invariants"])
    features.check_readable("batch_data")
    features.check_writable("batch_data")


def own_types(name):
    """Each text and number type of Arrow that says the same as ours."""
    texts = {
        "large": pa.large_string(),
        "view": pa.string_view(),
        "dictionary": pa.dictionary(pa.int8(), pa.string()),
        "large dictionary": pa.dictionary(pa.int32(), pa.large_string()),
        "plain": pa.string(),
    }
    return texts[name]


@pytest.mark.parametrize("text", ["large", "view", "dictionary", "large dictionary", "plain"])
@pytest.mark.parametrize(
    "number", [pa.int32(), pa.float32(), pa.decimal128(21, 2), pa.float64()], ids=str
)
def test_files_of_any_type_that_arrow_calls_equal(storage, text, number):
    """The file of a foreign writer beside one of ours; whole, and a range of its items."""
    kind = own_types(text)
    ours = pa.table(
        {
            "item_id": ["a"],
            "date": [D26],
            "sales": [1.0],
            "delivered_at": pa.array(
                [dt.datetime(2026, 3, 27, tzinfo=dt.UTC)], pa.timestamp("us", "UTC")
            ),
            "op": ["set"],
            "promo": [1.0],
        }
    )
    theirs = pa.table(
        {
            "item_id": pa.array(["b", "a", None], pa.string()).cast(kind)
            if "dictionary" not in text
            else pa.array(["b", "a", None], kind.value_type).dictionary_encode().cast(kind),
            "date": pa.array([D26, D27, D27], pa.date32()),
            "sales": pa.array([2, 3, 4]).cast(number),
            "delivered_at": pa.array([None, 1774656000, None]).cast(pa.timestamp("s")),
            "op": pa.array([None, "set", None], pa.string()),
            "promo": pa.array([True, None, False]),
        }
    )
    for key, table in (("ours", ours), ("theirs", theirs)):
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, store_schema=True)
        storage.create(key, sink.getvalue().to_pybytes())
    columns = partition.Columns(("promo",))
    stores = [("s", partition.read_store(storage, ["ours", "theirs"], columns))]
    rows = observations(stores, ("promo",), (), D26, D27)
    assert [tuple(row.values())[1:] for row in rows.to_pylist()] == [
        ("", D27, 4.0, 0.0),
        ("a", D26, 1.0, 1.0),
        ("a", D27, 3.0, None),
        ("b", D26, 2.0, 1.0),
    ]
    cut = partition.read_store(storage, ["ours", "theirs"], columns, ItemRange("b", None))
    assert pc.sum(pa.concat_tables([rows.whole() for rows in cut])["sales"]).as_py() == 2.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"op": pa.array(["SET"])}, "column 'op' has 'SET': it can be 'set' or 'add'"),
        ({"date": pa.array([None], pa.date32())}, "column 'date' is empty in 1 rows"),
        ({"item_id": pa.array([7])}, "column 'item_id' is of type int64"),
        ({"delivered_at": pa.array(["x"])}, "column 'delivered_at' is of type string"),
    ],
)
def test_what_cannot_be_meant_is_the_problem_of_its_store(local_storage, change, message):
    table = pa.table({"item_id": ["a"], "date": [D26], "sales": [1.0], "op": ["set"]})
    table = pa.table({**{name: table[name] for name in table.column_names}, **change})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    local_storage.create("theirs", sink.getvalue().to_pybytes())
    with pytest.raises(InputError, match=f"^theirs: {message}"):
        partition.read_store(local_storage, ["theirs"], partition.Columns())


def test_a_table_that_is_not_partitioned_by_stores_is_refused(local_storage):
    rows = pa.table({"store_id": ["1"], "date": [D26], "sales": [1.0]})
    write_deltalake(f"{local_storage.url}/{keys.BATCH_DATA}", rows)
    with pytest.raises(InputError, match=r"batch_data: .*has to be partitioned by store_id"):
        open_histories(local_storage)


@pytest.mark.parametrize("store", ["a b", "Köln", None, "x" * 65])
def test_a_store_that_is_no_id_is_refused_with_its_file(shop, store):
    rows = pa.Table.from_pylist([sales_row(store, LAST + DAY)], schema=foreign_schema())
    write_deltalake(
        f"{shop.storage.url}/{keys.BATCH_DATA}", rows, mode="append", schema_mode="merge"
    )
    with pytest.raises(InputError, match=r"batch_data/store_id=.*is no store id"):
        shop.run()


def foreign_schema():
    fields = [("store_id", pa.string()), ("date", pa.date32()), ("sales", pa.float64())]
    return pa.schema([*fields, ("open", pa.float64()), ("promo", pa.float64())])


def test_rows_that_others_appended_make_the_next_night(shop):
    """The as-of follows them, they are forecast from, compaction and clean-up leave them alone."""
    shop.run()
    day = LAST + DAY
    rows = [sales_row(f"s{n:03d}", day, 500.0 + n) for n in (2, 3, 4, 6, 7, 8, 10)]
    table = pa.Table.from_pylist(rows, schema=foreign_schema())
    address = f"{shop.storage.url}/{keys.BATCH_DATA}"
    write_deltalake(address, table, mode="append", schema_mode="merge")
    assert open_histories(shop.storage).newest_sales == day
    receipt = shop.run(None, now=midnight(day))
    assert (receipt.as_of, receipt.warnings) == (day, ())
    assert shop.stores()["s002"]["data_through"] == day
    before = shop.all_rows()
    few = shop.settings.model_copy(update={"ingest": Ingest(compact_above_files=1)})
    foreign = [key for key in shop.partition_files("s002") if "part-" in key]
    assert len(foreign) == 1
    compact(shop.storage, few, CompactScope(day), now=midnight(day))
    assert foreign[0] in shop.partition_files("s002")
    clean_up(shop.storage, midnight(day) + 400 * DAY)
    shop.run(force=True, now=midnight(day), as_of=day)
    assert (
        shop.all_rows()
        .drop_columns(["model_version"])
        .equals(before.drop_columns(["model_version"]))
    )


def test_the_examples_of_the_page_run_as_they_stand(shop):
    """On the histories of the small chain. The one with Polars runs where it is installed."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    if importlib.util.find_spec("polars") is None:
        blocks = blocks[:1]
    code = "\n".join(blocks).replace("mine/", f"{shop.storage.url}/")
    exec(compile(code, str(PAGE), "exec"), {"__name__": "page"})  # noqa: S102 - the page's own code
    assert "17" in open_histories(shop.storage).store_ids
    assert sold(shop.storage)["17", "B", dt.date(2026, 3, 28)] == 3.5
    assert delta.open_snapshot(shop.storage, keys.BATCH_DATA).version > 0
