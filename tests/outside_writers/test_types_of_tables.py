"""Tables that others made with other columns: read as meant, or refused as a whole by name."""

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from ray_job import ingest
from ray_job.bucket import keys
from ray_job.bucket.errors import InputError
from ray_job.data.context.tables import open_context
from ray_job.data.histories import open_histories
from ray_job.ingest.reading.raw_files import BadFilesError
from ray_job.settings import Settings

SETTINGS = Settings()
NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
FIRST, NEXT = dt.date(2026, 5, 1), dt.date(2026, 5, 2)
EARLY, LATE = (dt.datetime(2026, 5, day, tzinfo=dt.UTC) for day in (1, 2))


def times(*values):
    return pa.array(values, pa.timestamp("us", "UTC"))


def histories(**columns):
    rows = {
        "store_id": ["17", "18"],
        "item_id": ["A", "B"],
        "date": [FIRST, FIRST],
        "sales": [1.0, 2.0],
        "delivered_at": times(EARLY, EARLY),
        "op": ["set", "set"],
    }
    return pa.table({name: column for name, column in (rows | columns).items() if column})


def write(storage, root, rows, **options):
    write_deltalake(str(Path(storage.url, root)), rows, **options)


def deliver(storage, text, kind="sales"):
    path = Path(storage.url).parent / f"{kind}.csv"
    path.write_text(text)
    return ingest.ingest(storage, SETTINGS, [path], kind=kind, now=NOW)


def versions(storage, root):
    return DeltaTable(str(Path(storage.url, root))).version()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item_id": [5, 6]}, "column 'item_id' is of type int64, and has to be text"),
        ({"date": ["2026-05-01"] * 2}, "column 'date' is of type string, and has to be a date"),
        ({"date": pa.array([EARLY] * 2)}, r"column 'date' is of type timestamp\[us, tz=UTC\]"),
        ({"sales": ["1", "2"]}, "column 'sales' is of type string, and has to be a number"),
        ({"delivered_at": ["x", "y"]}, "column 'delivered_at' is of type string"),
        ({"op": [1, 2]}, "column 'op' is of type int64, and has to be text"),
        ({"delivered_at": None}, "has no column 'delivered_at'"),
    ],
)
def test_histories_whose_columns_mean_something_else_are_refused(local_storage, columns, message):
    """Every store of them would fail, and no sales be found: neither is read nor written."""
    write(local_storage, keys.BATCH_DATA, histories(**columns), partition_by=["store_id"])
    with pytest.raises(InputError, match=message):
        open_histories(local_storage)
    with pytest.raises(InputError, match=message):
        deliver(local_storage, "store_id,item_id,date,sales\n17,A,2026-05-02,9\n")
    assert versions(local_storage, keys.BATCH_DATA) == 0


@pytest.mark.parametrize(
    "sales", [pa.array([1, 2]), pa.array([Decimal("1.5")] * 2, pa.decimal128(9, 2))]
)
def test_a_delivery_does_not_change_the_type_of_a_column(local_storage, sales):
    write(local_storage, keys.BATCH_DATA, histories(sales=sales), partition_by=["store_id"])
    assert open_histories(local_storage).newest_sales == FIRST
    with pytest.raises(BadFilesError, match="the column sales is of type") as error:
        deliver(local_storage, "store_id,item_id,date,sales\n17,A,2026-05-02,9\n")
    assert str(sales.type) in str(error.value)
    assert "ignore" not in str(error.value)
    assert versions(local_storage, keys.BATCH_DATA) == 0


@pytest.mark.parametrize("extra", [pa.array([["a"], ["b"]]), pa.array([{"x": 1}] * 2), [1, 2]])
def test_columns_of_any_type_that_a_delivery_does_not_have(local_storage, extra):
    write(local_storage, keys.BATCH_DATA, histories(extra=extra), partition_by=["store_id"])
    deliver(local_storage, "store_id,item_id,date,sales\n17,A,2026-05-02,9\n")
    assert open_histories(local_storage).newest_sales == NEXT
    table = DeltaTable(str(Path(local_storage.url, keys.BATCH_DATA))).to_pyarrow_table()
    assert table.column("extra").null_count == 1
    with pytest.raises(BadFilesError, match=r"the column extra is of type .* under ignore of"):
        deliver(local_storage, "store_id,item_id,date,sales,extra\n17,A,2026-05-03,9,1\n")


def stores(**columns):
    rows = {"store_id": ["17", "18"], "region": ["BE", "BY"], "delivered_at": times(EARLY, EARLY)}
    return pa.table({name: column for name, column in (rows | columns).items() if column})


def weather(**columns):
    rows = {"region": ["BE"] * 2, "date": [FIRST, NEXT], "temperature": [1.0, 2.0]}
    return pa.table(rows | {"delivered_at": times(EARLY, EARLY)} | columns)


def read_context(storage, kind):
    rows = getattr(open_context(storage), kind)
    assert "delivered_at" not in rows.column_names
    return rows.to_pylist()


def test_a_context_without_times_of_delivery_is_read_and_added_to(local_storage):
    write(local_storage, "context/stores", stores(delivered_at=None))
    both = [{"store_id": "17", "region": "BE"}, {"store_id": "18", "region": "BY"}]
    assert read_context(local_storage, "stores") == both
    deliver(local_storage, "store_id,region\n18,HE\n", "stores")
    assert read_context(local_storage, "stores") == [both[0], {"store_id": "18", "region": "HE"}]


def test_of_rows_that_others_append_the_one_that_was_delivered_last_counts(local_storage):
    write(local_storage, "context/weather", weather())
    newer = weather(date=[NEXT, NEXT], temperature=[7.0, 5.0], delivered_at=times(LATE, None))
    write(local_storage, "context/weather", newer, mode="append")
    temperatures = {
        row["date"]: row["temperature"] for row in read_context(local_storage, "weather")
    }
    assert temperatures == {FIRST: 1.0, NEXT: 7.0}


@pytest.mark.parametrize(
    "days", [pa.array([EARLY, LATE]), pa.array(["2026-05-01", "2026-05-02"], pa.large_string())]
)
def test_days_of_a_context_in_other_types(local_storage, days):
    write(local_storage, "context/weather", weather(date=days))
    assert [row["date"] for row in read_context(local_storage, "weather")] == [FIRST, NEXT]


@pytest.mark.parametrize(
    ("kind", "rows", "options", "message"),
    [
        ("stores", stores(), {"partition_by": ["region"]}, r"is partitioned by \['region'\]"),
        ("weather", weather(), {"partition_by": ["region"]}, r"is partitioned by \['region'\]"),
        ("stores", stores(store_id=[17, 18]), {}, "column 'store_id' is of type int64"),
        ("stores", stores(region=[1, 2]), {}, "column 'region' is of type int64"),
        ("stores", stores(store_id=None, id=["17", "18"]), {}, "has no column 'store_id'"),
        ("stores", stores(store_id=["17", None]), {}, "'store_id' is empty in 1 rows"),
        ("weather", weather(date=[FIRST, None]), {}, "'date' is empty in 1 rows"),
    ],
)
def test_a_context_that_cannot_be_meant_is_refused(local_storage, kind, rows, options, message):
    """A region that stands in the folders only would be none, and an ingest would store that."""
    write(local_storage, f"context/{kind}", rows, **options)
    with pytest.raises(InputError, match=f"context/{kind}: .*{message}"):
        open_context(local_storage)
    header = {"stores": "store_id,region\n19,BE\n", "weather": "region,date\nBE,2026-05-03\n"}
    with pytest.raises(InputError, match=f"context/{kind}: .*{message}|the column region is of"):
        deliver(local_storage, header[kind], kind)
    assert versions(local_storage, f"context/{kind}") == 0


def test_a_day_that_is_none_is_named_with_its_file(local_storage):
    write(local_storage, "context/weather", weather(date=["2026-05-01", "tomorrow"]))
    with pytest.raises(InputError, match=r"context/weather/part-.*: Failed to parse string"):
        open_context(local_storage)


def test_a_context_with_deleted_rows_in_a_vector_is_refused(local_storage):
    """An ingest would bring them back."""
    write(local_storage, "context/stores", stores())
    log = Path(local_storage.url, "context/stores/_delta_log")
    lines = (log / f"{0:020d}.json").read_text().splitlines()
    (add,) = [json.loads(line)["add"] for line in lines if line.startswith('{"add"')]
    features = {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
    vector = {"storageType": "u", "pathOrInlineDv": "x" * 20, "offset": 1, "sizeInBytes": 36}
    actions = [
        {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}},
        {"add": {**add, "deletionVector": {**vector, "cardinality": 1}}},
    ]
    (log / f"{1:020d}.json").write_text("\n".join(map(json.dumps, actions)))
    with pytest.raises(InputError, match="context/stores: the table uses the feature deletionV"):
        open_context(local_storage)
    with pytest.raises(InputError, match="context/stores: the table uses the feature deletionV"):
        deliver(local_storage, "store_id,region\n19,BE\n", "stores")
