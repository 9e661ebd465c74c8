"""Logs and files that others write, in shapes that nobody expects: one sentence, or read as meant.

None of them ends the process, is read as an empty table, or loses a file in silence.
"""

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from ray_job import ingest
from ray_job.bucket import keys
from ray_job.bucket.errors import CorruptError, InputError
from ray_job.data import partition
from ray_job.data.histories import open_histories
from ray_job.data.observations import observations
from ray_job.operations.clean_up import clean_up
from ray_job.plan import ItemRange
from ray_job.settings import Settings

SETTINGS = Settings()
NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
FIRST, NEXT = dt.date(2026, 5, 1), dt.date(2026, 5, 2)
OWN = {("1", FIRST): 10.0, ("2", FIRST): 20.0}
WITH_FOREIGN = OWN | {("1", NEXT): 5.0}


@pytest.fixture
def table(local_storage):
    """A table of two stores, in which others then write."""
    return ForeignTable(local_storage)


class ForeignTable:
    def __init__(self, storage):
        self.storage = storage
        self.root = Path(storage.url, keys.BATCH_DATA)
        self.log = self.root / "_delta_log"
        self.deliver("1,2026-05-01,10\n2,2026-05-01,20\n")

    def deliver(self, rows, *, replace=False):
        path = self.root.parent / f"{NOW:%d}-{len(list(self.root.parent.iterdir()))}.csv"
        path.write_text(f"store_id,date,sales\n{rows}")
        ingest.ingest(self.storage, SETTINGS, [path], replace=replace, now=NOW)

    def add_file(self, name="store_id=1/x.parquet", rows=None):
        path = self.root / name
        pq.write_table(rows or foreign_rows(), path)
        return path.stat().st_size

    def commit(self, *actions, skipped=0):
        newest = max(int(path.stem) for path in self.log.glob("*.json"))
        lines = [action if isinstance(action, str) else json.dumps(action) for action in actions]
        (self.log / f"{newest + 1 + skipped:020d}.json").write_text("\n".join(lines) + "\n")

    def sold(self):
        by_store = {}
        for file in open_histories(self.storage).files.to_pylist():
            by_store.setdefault(file["store_id"], []).append(file["path"])
        read = [
            (store, partition.read_store(self.storage, paths, partition.Columns()))
            for store, paths in sorted(by_store.items())
        ]
        rows = observations(read, (), (), FIRST, NOW.date()).to_pylist()
        return {(row["store_id"], row["date"]): row["sales"] for row in rows}


def foreign_rows(**columns):
    rows = {"item_id": [""], "date": pa.array([NEXT]), "sales": [5.0], **columns}
    return pa.table({name: values for name, values in rows.items() if values is not None})


def add(size, path="store_id=1/x.parquet", stats=None, **changes):
    action = {
        "path": path,
        "partitionValues": {"store_id": "1"},
        "size": size,
        "modificationTime": 0,
        "dataChange": True,
        "stats": stats,
    }
    return {"add": {**action, **changes}}


@pytest.mark.parametrize(
    "stats",
    [
        "null",
        "",
        "5",
        '{"numRec',
        '{"numRecords":1.5}',
        '{"numRecords":1e99,"minValues":7}',
        '{"numRecords":1,"minValues":{"date":"abc"},"maxValues":{"date":"abc"}}',
        '{"minValues":{"date":"2026-05-02T00:00:00Z"},"maxValues":{"date":"2026-05-02T00:00:00Z"}}',
        '{"minValues":{"item_id":5},"maxValues":{"item_id":7}}',
        '{"numRecords":1,\n"minValues":{"date":"2026-05-02"},\n"maxValues":{"date":"2026-05-02"}}',
        '{"minValues":{"date":"2026-05-02"}}',
        '{"numRecords":-5}',
        '{"numRecords":9007199254740993}',
    ],
)
def test_statistics_of_any_kind_are_hints(table, stats):
    """Those that Arrow's reader cannot parse, one of which ends the process, hide no row."""
    table.commit(add(table.add_file(), stats=stats))
    assert table.sold() == WITH_FOREIGN
    histories = open_histories(table.storage)
    assert histories.newest_sales == NEXT
    assert all(rows in (None, 1) for rows in histories.files["rows"].to_pylist())
    table.deliver("1,2026-05-02,55\n", replace=True)
    assert table.sold() == OWN | {("1", NEXT): 55.0}


@pytest.mark.parametrize(
    "name", ["ü x%41.parquet", "a+b.parquet", "a#b?c.parquet", "a=b;c.parquet"]
)
def test_a_file_of_any_name_is_one_file(table, name):
    """The log has it as a part of a URL, in whichever spelling; ingests replace its rows."""
    size = table.add_file(f"store_id=1/{name}", foreign_rows(op=["add"]))
    table.commit(add(size, path=f"store_id=1/{quote(name)}"))
    table.commit(add(size, path=quote(f"store_id=1/{name}", safe="/")))
    assert table.sold() == WITH_FOREIGN
    table.deliver("1,2026-05-02,55\n", replace=True)
    assert table.sold() == OWN | {("1", NEXT): 55.0}


@pytest.mark.parametrize(
    "path",
    ["store_id=1//x.parquet", "store_id=1/./x.parquet", "file:/tmp/x.parquet", "gs://b/x.parquet"],
)
def test_a_second_spelling_or_a_place_outside_is_refused(table, path):
    table.commit(add(table.add_file(), path=path))
    with pytest.raises(InputError, match=f"names '{path}', a file outside of the table"):
        table.sold()


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (["null"], r"\.json: it has a line that is no action"),
        ([add(1), "null"], r"\.json: it has a line that is no action"),
        (["\ufeff" + json.dumps(add(1))], r"\.json: it has a line that is no action"),
        ([add(1, path=None)], "has an action without 'path'"),
        ([add(None)], "has an action without 'size'"),
        ([{"remove": {"dataChange": True}}], "has an action without 'path'"),
        (
            [{"metaData": {"id": "x", "schemaString": "{}", "partitionColumns": ["store_id"]}}],
            "the log's columns cannot be read",
        ),
    ],
)
def test_a_commit_that_is_none_is_refused_by_name(table, actions, message):
    """A file without a path took another one's place; `null` alone ended the process."""
    table.commit(*actions)
    with pytest.raises(CorruptError, match=message):
        table.sold()


def test_a_commit_that_is_missing_is_named(table):
    table.commit(add(table.add_file()), skipped=1)
    missing = f"{int(max(p.stem for p in table.log.glob('*.json'))) - 1:020d}.json"
    for read in (table.sold, lambda: table.deliver("1,2026-05-03,1\n")):
        with pytest.raises(CorruptError, match=f"{missing}: this commit is missing"):
            read()


def test_a_checkpoint_that_is_ahead_of_the_commits(table):
    """It is read. An ingest writes nothing, and names the commit and what takes its place."""
    DeltaTable(str(table.log.parent)).create_checkpoint()
    for newest in sorted(table.log.glob("*.json"))[-2:]:
        newest.unlink()
    assert table.sold() == OWN
    files = sorted(table.log.parent.rglob("*.parquet"))
    with pytest.raises(
        CorruptError, match=rf"^batch_data/_delta_log/{newest.name}: this commit is"
    ):
        table.deliver("1,2026-05-03,1\n")
    assert sorted(table.log.parent.rglob("*.parquet")) == files
    newest.write_text('{"commitInfo":{}}\n')
    table.deliver("1,2026-05-02,5\n")
    assert table.sold() == WITH_FOREIGN


def test_a_hint_of_a_checkpoint_that_is_not_there(table):
    """It is read, since the hint is not needed; an ingest names the object to delete."""
    hint = table.log / "_last_checkpoint"
    hint.write_text('{"version":77,"size":3}')
    assert table.sold() == OWN
    with pytest.raises(CorruptError, match=r"_last_checkpoint: .* version 77.*delete this object"):
        table.deliver("1,2026-05-03,1\n")
    hint.unlink()
    table.deliver("1,2026-05-02,5\n")
    assert table.sold() == WITH_FOREIGN


@pytest.mark.parametrize(
    "content", [pa.table({"add": pa.nulls(1)}), pa.table({"x": [1]}), pa.table({"add": ["x"]})]
)
def test_a_checkpoint_of_something_else_is_refused_by_name(table, content):
    newest = max(path.stem for path in table.log.glob("*.json"))
    pq.write_table(content, table.log / f"{newest}.checkpoint.parquet")
    with pytest.raises(
        CorruptError, match=rf"{newest}\.checkpoint\.parquet: the checkpoint cannot"
    ):
        table.sold()


@pytest.mark.parametrize(
    ("columns", "sales"),
    [
        ({"sales": pa.array([2**64 - 1], pa.uint64())}, 2.0**64),
        ({"sales": pa.array([7], pa.uint8())}, 7.0),
        ({"sales": pa.array([1.5], pa.float16())}, 1.5),
        ({"sales": pa.array([Decimal("1.25")], pa.decimal256(76, 10))}, 1.25),
        ({"date": pa.array([NEXT], pa.date64())}, 5.0),
        ({"item_id": None}, 5.0),
        ({"delivered_at": pa.array([1777680000000000001]).cast(pa.timestamp("ns"))}, 5.0),
        (
            {
                "delivered_at": pa.array(
                    [dt.datetime(2026, 5, 2, tzinfo=dt.UTC)], pa.timestamp("us", "Asia/Tokyo")
                )
            },
            5.0,
        ),
        ({"delivered_at": pa.array([1777680000]).cast(pa.timestamp("s", "UTC"))}, 5.0),
    ],
)
def test_values_of_others_are_read_and_replaced(table, columns, sales):
    """Nanoseconds are what pandas writes; a file may be older than the column item_id."""
    table.commit(add(table.add_file(rows=foreign_rows(**columns))))
    assert table.sold() == OWN | {("1", NEXT): sales}
    table.deliver("1,2026-05-02,55\n", replace=True)
    assert table.sold() == OWN | {("1", NEXT): 55.0}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (foreign_rows(sales=[float("inf")]), "column 'sales' is infinite"),
        (foreign_rows(sales=None), "the column 'sales' is missing"),
        (foreign_rows(date=None), "the column 'date' is missing"),
        (foreign_rows(delivered_at=pa.array([2**60]).cast(pa.timestamp("ms"))), "out of bounds"),
        (
            pa.Table.from_arrays(
                [pa.array([NEXT]), *[pa.array([1.0])] * 2], ["date", *["sales"] * 2]
            ),
            "there are 2 columns 'sales'",
        ),
    ],
)
def test_values_that_mean_nothing_are_refused_with_their_file(table, rows, message):
    table.commit(add(table.add_file(rows=rows)))
    with pytest.raises(InputError, match=f"^batch_data/store_id=1/x.parquet: .*{message}"):
        table.sold()


def test_a_range_of_items_is_found_behind_columns_of_lists(table):
    """Such a column is several columns of Parquet, and the statistics are told by place."""
    rows = pa.table(
        {
            "tags": pa.array([{"x": "y", "z": "zz"}] * 4),
            "item_id": ["a", "b", "c", "d"],
            "date": pa.array([NEXT] * 4),
            "sales": [1.0, 2.0, 3.0, 4.0],
        }
    )
    path = table.root / "store_id=1/x.parquet"
    pq.write_table(rows, path, row_group_size=1)
    read = partition.read_store(
        table.storage,
        [f"{keys.BATCH_DATA}/store_id=1/x.parquet"],
        partition.Columns(),
        ItemRange("b", "d"),
    )
    assert [each for rows in read for each in rows.whole()["sales"].to_pylist()] == [2.0, 3.0]


def test_the_newest_sales_may_be_in_a_file_without_dates(table):
    """Among files that say theirs, and behind more such files than are read: the newest first."""
    old = foreign_rows(date=pa.array([FIRST - dt.timedelta(days=30)]))
    for number in range(70):
        size = table.add_file(f"store_id=1/{number:03d}.parquet", old)
        table.commit(add(size, f"store_id=1/{number:03d}.parquet", modificationTime=number))
    dates = {"date": str(FIRST)}
    stats = json.dumps({"numRecords": 1, "minValues": dates, "maxValues": dates})
    dated = table.add_file("store_id=1/y.parquet", foreign_rows(date=pa.array([FIRST])))
    table.commit(
        add(dated, "store_id=1/y.parquet", stats), add(table.add_file(), modificationTime=99)
    )
    assert open_histories(table.storage).newest_sales == NEXT


_MAP = pa.map_(pa.string(), pa.string())
_CHECKPOINT = pa.schema(
    {
        "txn": pa.struct({"appId": pa.string(), "version": pa.int64()}),
        "add": pa.struct(
            {
                "path": pa.string(),
                "partitionValues": _MAP,
                "size": pa.int64(),
                "modificationTime": pa.int64(),
                "dataChange": pa.bool_(),
                "stats": pa.string(),
            }
        ),
        "remove": pa.struct({"path": pa.string()}),
        "metaData": pa.struct(
            {
                "id": pa.string(),
                "format": pa.struct({"provider": pa.string(), "options": _MAP}),
                "schemaString": pa.string(),
                "partitionColumns": pa.list_(pa.string()),
                "createdTime": pa.int64(),
                "configuration": _MAP,
            }
        ),
        "protocol": pa.struct(
            {
                "minReaderVersion": pa.int32(),
                "minWriterVersion": pa.int32(),
                "readerFeatures": pa.list_(pa.string()),
                "writerFeatures": pa.list_(pa.string()),
            }
        ),
        "checkpointMetadata": pa.struct({"version": pa.int64()}),
        "sidecar": pa.struct(
            {"path": pa.string(), "sizeInBytes": pa.int64(), "modificationTime": pa.int64()}
        ),
    }
)


def write_checkpoint_of_version_2(table, name, *, has_sidecar):
    """A checkpoint of the newest version, in place of all commits before it."""
    features = ["v2Checkpoint"]
    protocol = {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": features,
        "writerFeatures": features,
    }
    table.commit({"protocol": protocol})
    *earlier, newest = sorted(table.log.glob("*.json"))
    actions = [json.loads(line) for path in earlier for line in path.read_text().splitlines()]
    files = [{"add": line["add"]} for line in actions if "add" in line]
    described = [line["metaData"] for line in actions if "metaData" in line][-1]
    top = [
        {"checkpointMetadata": {"version": int(newest.stem)}},
        {"protocol": protocol},
        {"metaData": described},
        *({"txn": line["txn"]} for line in actions if "txn" in line),
    ]
    if has_sidecar:
        sidecar = table.log / "_sidecars/one.parquet"
        sidecar.parent.mkdir()
        schema = pa.schema([_CHECKPOINT.field("add"), _CHECKPOINT.field("remove")])
        pq.write_table(pa.Table.from_pylist(files, schema), sidecar)
        size = sidecar.stat().st_size
        files = [{"sidecar": {"path": sidecar.name, "sizeInBytes": size, "modificationTime": 0}}]
    rows = pa.Table.from_pylist([*top, *files], _CHECKPOINT)
    pq.write_table(rows, table.log / f"{newest.stem}.{name}.parquet")
    for path in earlier:
        path.unlink()


@pytest.mark.parametrize("has_sidecar", [False, True])
@pytest.mark.parametrize("name", ["checkpoint", "checkpoint.3a0d65cd-4056-49b8-937b-95f9e3ee90e5"])
def test_a_checkpoint_of_version_2_is_read_whole(table, name, has_sidecar):
    """Its files may be named in objects beside it, whichever of its two names it has."""
    write_checkpoint_of_version_2(table, name, has_sidecar=has_sidecar)
    assert table.sold() == OWN
    clean_up(table.storage, dt.datetime.now(dt.UTC) + dt.timedelta(days=100))
    assert table.sold() == OWN
    table.deliver("1,2026-05-02,55\n", replace=True)
    assert table.sold() == OWN | {("1", NEXT): 55.0}
