"""Histories that several programs write, in any order: nothing foreign is deleted or counted twice.

The state machine keeps the rows that must be there and the files of others, and reads the bucket.
"""

import os
import tempfile
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ray_job import ingest
from ray_job.bucket import keys
from ray_job.data import partition
from ray_job.data.histories import open_histories
from ray_job.data.observations import observations
from ray_job.operations.clean_up import clean_up
from ray_job.settings import Ingest
from tests.support.shop import LAST, SETTINGS, Shop, filled, midnight, objects

NOW = midnight(LAST)
FIRST = date(2025, 3, 1)
CHAIN = SETTINGS.model_copy(update={"ingest": Ingest(compact_above_files=1, row_group_rows=200)})
BESIDE = (
    *(f"{keys.RAW_DATA}notes-{{}}.txt", f"{keys.RAW_DATA}_SUCCESS-{{}}"),
    *(f"{keys.PACKS}theirs-{{}}.arrows", f"{keys.PACKS_OF_FORMAT}part-{{}}.arrows"),
    *(f"{keys.PARTS}as_of={LAST}/part-{{}}.parquet", f"{keys.RELEASES}theirs-{{}}.parquet"),
    *(f"{keys.RECEIPTS}copy-{{}}.json", f"{keys.ACCURACY}notes-{{}}.csv"),
    *(f"{keys.MODELS}theirs-{{}}/model.joblib", f"{keys.context('stores')}/part-{{}}.parquet"),
)
"""Where others put files that are no part of anything."""
TEXTS = (
    *(pa.string(), pa.large_string(), pa.string_view()),
    pa.dictionary(pa.int8(), pa.string()),
)
# The last one of them is known to nobody before.
stores = st.sampled_from(["s003", "s004", "n01"])
Key = tuple[str, date]


@dataclass(frozen=True)
class Row:
    """`time` None is older than every time."""

    sales: float
    time: datetime | None = None
    op: str | None = None


def folded(rows):
    """The sales of a day that these rows give."""
    beginning = datetime.min.replace(tzinfo=UTC)
    known = 0.0
    for row in sorted(rows, key=lambda row: row.time or beginning):
        known = known + row.sales if row.op == "add" else row.sales
    return known


class SharedHistories(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name)
        self.shop = Shop(filled(self.root, objects()), CHAIN)
        self.storage = self.shop.storage
        self.number = 0
        self.rows: dict[Key, list[Row]] = {}
        self.raw: list[tuple[str, dict[Key, Row]]] = []  # what a rebuild brings in, in order
        self.outside: dict[str, tuple[Key, Row]] = {}  # files in batch_data/ that are not in
        self.foreign: dict[str, bytes] = {}
        self.left_out: set[str] = set()
        self.of_chain = self._read()

    def teardown(self):
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def _next(self):
        self.number += 1
        return self.number

    def _fresh_key(self, store):
        return store, FIRST + timedelta(days=self._next())

    def _table(self):
        return DeltaTable(str(self.root / keys.BATCH_DATA))

    @rule(store=stores)
    def somebody_delivers(self, store):
        self._deliver(self._fresh_key(store), "")

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def somebody_replaces_a_day(self, data):
        self._deliver(data.draw(st.sampled_from(sorted(self.rows))), "replace/")

    def _deliver(self, key, folder):
        store, day = key
        row = Row(float(self._next()), NOW + timedelta(seconds=self.number))
        name = f"{keys.RAW_DATA}{folder}{self.number}.csv"
        self.storage.create(name, f"store_id,date,sales\n{store},{day},{row.sales}\n".encode())
        self.rows[key] = [row] if folder else [*self.rows.get(key, []), row]
        self.raw.append((name, {key: row}))
        self._ingest()

    def _ingest(self, **options):
        report = ingest.ingest(self.storage, CHAIN, now=NOW, leave_out_bad=True, **options)
        assert {bad.key for bad in report.bad} == self.left_out

    @rule(store=stores, text=st.sampled_from(TEXTS), op=st.sampled_from([None, "set", "add"]))
    def somebody_appends(self, store, text, op):
        """In types of their own; the columns without a value are missing or null."""
        self._append(self._fresh_key(store), text, op, None)

    @precondition(lambda self: self.rows)
    @rule(
        data=st.data(),
        text=st.sampled_from(TEXTS),
        op=st.sampled_from([None, "set", "add"]),
        days=st.integers(-3, 3),
    )
    def somebody_corrects(self, data, text, op, days):
        """Before or after what we ingested, by its time."""
        key = data.draw(st.sampled_from(sorted(self.rows)))
        self._append(key, text, op, NOW + timedelta(days=days + 0.5, milliseconds=self.number))

    def _append(self, key, text, op, time):
        row = Row(float(self._next()), time, op)
        columns = {
            "store_id": [key[0]],  # delta-rs takes no dictionary here
            "item_id": pa.nulls(1, pa.string()).cast(text),
            "date": [key[1]],
            "sales": [row.sales],
            "op": pa.array([op], pa.string()).cast(text),
            "delivered_at": pa.array([time], pa.timestamp("us", "UTC")),
        }
        if op is None and time is None:
            del columns["op"], columns["delivered_at"]
        write_deltalake(
            str(self.root / keys.BATCH_DATA), pa.table(columns), mode="append", schema_mode="merge"
        )
        self.rows[key] = [*self.rows.get(key, []), row]

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def somebody_deletes(self, data):
        store, day = data.draw(st.sampled_from(sorted(self.rows)))
        self._table().delete(f"store_id = '{store}' AND date = '{day}'")
        del self.rows[store, day]

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), store=stores)
    def somebody_merges(self, data, store):
        """A merge updates each row of a day that is there, and inserts another one."""
        old, new = data.draw(st.sampled_from(sorted(self.rows))), self._fresh_key(store)
        sales = float(self._next())
        source = pa.table(
            {"store_id": [old[0], new[0]], "date": [old[1], new[1]], "sales": [sales, sales]}
        )
        (
            self._table()
            .merge(source, "t.store_id = s.store_id AND t.date = s.date", "s", "t")
            .when_matched_update({"sales": "s.sales"})
            .when_not_matched_insert({name: f"s.{name}" for name in source.column_names})
            .execute()
        )
        self.rows[old] = [Row(sales, row.time, row.op) for row in self.rows[old]]
        self.rows[new] = [Row(sales)]

    @rule(store=stores)
    def somebody_overwrites_a_partition(self, store):
        key = self._fresh_key(store)
        rows = pa.table({"store_id": [store], "date": [key[1]], "sales": [float(self.number)]})
        write_deltalake(
            str(self.root / keys.BATCH_DATA),
            rows,
            mode="overwrite",
            predicate=f"store_id = '{store}'",
            schema_mode="merge",
        )
        self.rows = {other: rows for other, rows in self.rows.items() if other[0] != store}
        self.of_chain = {other: s for other, s in self.of_chain.items() if other[0] != store}
        self.rows[key] = [Row(float(self.number))]

    @rule(how=st.sampled_from(["compact", "vacuum", "checkpoint", "clean log"]))
    def somebody_maintains_the_table(self, how):
        table = self._table()
        if how == "compact":
            table.optimize.compact()
        elif how == "vacuum":
            table.vacuum(0, dry_run=False, enforce_retention_duration=False)
        elif how == "checkpoint":
            table.create_checkpoint()
        else:
            table.create_checkpoint()
            table.cleanup_metadata()

    @rule(store=stores)
    def somebody_copies_a_file_into_batch_data(self, store):
        key = self._fresh_key(store)
        row = Row(float(self.number), NOW + timedelta(seconds=self.number))
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"date": [key[1]], "sales": [row.sales]}), sink)
        path = f"{keys.BATCH_DATA}/store_id={store}/part-{self.number}.parquet"
        self._put(path, sink.getvalue().to_pybytes())
        self.outside[path] = key, row

    @rule(place=st.sampled_from(BESIDE))
    def somebody_copies_a_file_beside(self, place):
        key = place.format(self._next())
        self._put(key, f"theirs {self.number}".encode())
        if key.endswith(".txt"):
            self.left_out.add(key)

    def _put(self, key, data):
        self.storage.create(key, data)
        self.foreign[key] = data
        os.utime(self.root / key, (0, 0))  # so old that clean-up would take one of its own

    @rule()
    def bring_in(self):
        self._ingest(from_batch_data=True)
        for path, (key, row) in self.outside.items():
            self.rows[key] = [*self.rows.get(key, []), row]
            self.raw.append((f"{keys.RAW_DATA}{path}", {key: row}))
        self.outside.clear()

    @rule(night=st.integers(0, 15))
    def compact(self, night):
        scope = ingest.CompactScope(FIRST + timedelta(days=night))
        ingest.compact(self.storage, CHAIN, scope, now=NOW)

    @rule()
    def clean(self):
        """When everything in the bucket is old."""
        clean_up(self.storage, datetime.now(UTC) + timedelta(days=400))

    @rule()
    def run(self):
        receipt = self.shop.run(LAST)
        assert receipt.exit_code in (0, 3, 4)  # a gate refuses where others overwrote partitions
        warnings = [text for text in receipt.warnings if "are in no ingest and in no log" in text]
        assert len(warnings) == bool(self.outside)

    @rule()
    def build_again(self):
        """As docs/restore.md says: what others wrote to the table is lost, and nothing else."""
        lost = f"lost/{self._next()}"
        (self.root / lost).mkdir(parents=True)
        for name in (keys.BATCH_DATA, "context"):
            (self.root / name).rename(self.root / lost / name)
        moved = (f"{keys.BATCH_DATA}/", "context/")
        self.foreign = {
            f"{lost}/{key}" if key.startswith(moved) else key: data
            for key, data in self.foreign.items()
        }
        self.outside.clear()
        for key, _ in self.raw:
            (self.root / key).rename(self.root / f"aside-{key.replace('/', '-')}")
        self._ingest()
        self.of_chain, self.rows = self._read(), {}
        for key, rows in self.raw:
            (self.root / f"aside-{key.replace('/', '-')}").rename(self.root / key)
            self._ingest()
            self.rows |= {of: [row] for of, row in rows.items()}

    @invariant()
    def every_row_is_there_once_and_every_foreign_file_stays(self):
        if not hasattr(self, "of_chain"):
            return
        expected = {key: folded(rows) for key, rows in self.rows.items()}
        assert self._read() == self.of_chain | expected
        for key, data in self.foreign.items():
            assert self.storage.read(key) == data
        histories = open_histories(self.storage)
        assert histories.newest_sales == LAST
        assert histories.foreign_files.count == len(self.outside)

    def _read(self):
        """The sales of each store and day of the item without a name, as a run reads them."""
        by_store: dict[str, list[str]] = {}
        for file in open_histories(self.storage).files.to_pylist():
            by_store.setdefault(file["store_id"], []).append(file["path"])
        read = [
            (store, partition.read_store(self.storage, paths, partition.Columns()))
            for store, paths in sorted(by_store.items())
        ]
        table = observations(read, (), (), FIRST, LAST)
        return {
            (row["store_id"], row["date"]): row["sales"]
            for row in table.to_pylist()
            if not row["item_id"]
        }


TestSharedHistories = SharedHistories.TestCase
TestSharedHistories.settings = settings(
    max_examples=10,
    stateful_step_count=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
