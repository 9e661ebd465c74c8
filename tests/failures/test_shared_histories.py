"""Histories that several programs write, in any order: nothing foreign is deleted or counted twice.

The state machine keeps the rows that must be there, and the foreign files, and reads the bucket.
"""

import tempfile
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
from ray_job.bucket.storage import open_bucket
from ray_job.data import partition
from ray_job.data.histories import open_histories
from ray_job.data.observations import observations
from ray_job.operations.clean_up import clean_up
from ray_job.settings import Ingest, Settings

NOW = datetime(2026, 6, 1, tzinfo=UTC)
FIRST = date(2026, 1, 1)
SETTINGS = Settings(ingest=Ingest(compact_above_files=1))
stores = st.sampled_from(["1", "2"])


class SharedHistories(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name)
        self.storage = open_bucket(str(self.root))
        self.days = 0
        self.rows: dict[tuple[str, date], float] = {}
        self.outside: dict[str, dict[tuple[str, date], float]] = {}  # foreign files that are not in
        self.foreign: dict[str, bytes] = {}

    def teardown(self):
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def _row(self, store):
        self.days += 1
        return {(store, FIRST + timedelta(days=self.days)): float(self.days)}

    @rule(store=stores)
    def somebody_delivers(self, store):
        row = self._row(store)
        ((_, day),) = row
        name = f"{keys.RAW_DATA}{self.days}.csv"
        self.storage.create(
            name, f"store_id,date,sales\n{store},{day},{row[store, day]}\n".encode()
        )
        self.rows |= row
        ingest.ingest(self.storage, SETTINGS, now=NOW)

    @precondition(lambda self: self.rows)
    @rule(store=stores)
    def somebody_commits(self, store):
        """Another writer appends to the table, in its own types."""
        row = self._row(store)
        ((_, day),) = row
        table = pa.table({"store_id": [store], "date": [day], "sales": [row[store, day]]})
        write_deltalake(self._address(), table, mode="append", schema_mode="merge")
        self.rows |= row

    @precondition(lambda self: self.rows)
    @rule()
    def somebody_deletes(self):
        """Another writer's delete, which rewrites files."""
        store, day = min(self.rows)
        DeltaTable(self._address()).delete(f"store_id = '{store}' AND date = '{day}'")
        del self.rows[store, day]

    @rule(store=stores)
    def somebody_copies_a_file(self, store):
        row = self._row(store)
        ((_, day),) = row
        key = f"{keys.BATCH_DATA}/store_id={store}/part-{self.days}.parquet"
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"date": [day], "sales": [row[store, day]]}), sink)
        self.foreign[key] = sink.getvalue().to_pybytes()
        self.storage.create(key, self.foreign[key])
        self.outside[key] = row

    @rule()
    def bring_in(self):
        ingest.ingest(self.storage, SETTINGS, from_batch_data=True, now=NOW)
        for row in self.outside.values():
            self.rows |= row
        self.outside.clear()

    @precondition(lambda self: self.rows)
    @rule(night=st.integers(0, 15))
    def compact(self, night):
        scope = ingest.CompactScope(FIRST + timedelta(days=night))
        ingest.compact(self.storage, SETTINGS, scope, now=NOW)

    @rule()
    def clean(self):
        clean_up(self.storage, datetime.now(UTC) + timedelta(days=400))

    @invariant()
    def every_row_is_there_once_and_every_foreign_file_stays(self):
        if not getattr(self, "rows", None):
            return
        assert self._read() == self.rows
        for key, data in self.foreign.items():
            assert self.storage.read(key) == data
        histories = open_histories(self.storage)
        assert histories.newest_sales >= max(day for _, day in self.rows)
        assert histories.foreign_files.count == len(self.outside)

    def _address(self):
        return str(self.root / keys.BATCH_DATA)

    def _read(self):
        by_store: dict[str, list[str]] = {}
        for file in open_histories(self.storage).files.to_pylist():
            by_store.setdefault(file["store_id"], []).append(file["path"])
        read = [
            (store, partition.read_store(self.storage, paths, partition.Columns()))
            for store, paths in sorted(by_store.items())
        ]
        table = observations(read, (), (), FIRST, FIRST + timedelta(days=400))
        return {(row["store_id"], row["date"]): row["sales"] for row in table.to_pylist()}


TestSharedHistories = SharedHistories.TestCase
TestSharedHistories.settings = settings(
    max_examples=8,
    stateful_step_count=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
