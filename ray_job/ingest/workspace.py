"""DuckDB as the ingest uses it: with a limit to its memory, and the rows in a temporary directory.

The rows lie in a database file. What DuckDB needs of it in memory it can drop again at any time;
pages of a temporary table it would have to write out first, and gives up where it has no room.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from ray_job.bucket.errors import StorageError
from ray_job.progress import Stage
from ray_job.settings import Settings

_WATCH_SECONDS = 1.0
_BATCH_ROWS = 100_000


@contextmanager
def _told() -> Iterator[None]:
    """Tell DuckDB's want of memory as ours; within a stream Arrow tells it as an OSError."""
    try:
        yield
    except (duckdb.OutOfMemoryException, OSError) as error:
        told = str(error).splitlines()[0]
        if isinstance(error, OSError) and not told.startswith("Out of Memory Error"):
            raise
        raise StorageError(f"ingest.memory_limit is too small: {told}") from error


@dataclass(frozen=True, slots=True)
class Workspace:
    connection: duckdb.DuckDBPyConnection
    folder: Path

    @contextmanager
    def watched(self, stage: Stage) -> Iterator[None]:
        """Tell the stage every second how far DuckDB is with the query that runs meanwhile."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_WATCH_SECONDS):
                percent = self.connection.query_progress()
                if percent >= 0:
                    stage.advance(0, query_percent=round(percent))

        watcher = threading.Thread(target=watch, name="ingest-progress", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def run(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with _told():
            return self.connection.execute(sql, list(parameters)).fetchall()

    def stream(self, sql: str) -> Iterator[pa.RecordBatch]:
        """The rows in batches, once a sort is done; the next query ends the stream."""
        with _told():
            reader = self.connection.sql(sql).to_arrow_reader(_BATCH_ROWS)
        return _batches(reader)

    def close(self) -> None:
        """Give DuckDB's memory back. No query can follow; what lies in the folder stays."""
        self.connection.close()


def _batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    while True:
        with _told():
            batch = next(reader, None)
        if batch is None:
            return
        yield batch


@contextmanager
def workspace(settings: Settings) -> Iterator[Workspace]:
    """A connection and a directory that are gone afterwards.

    Rows keep the order of the file that they were read from: their numbers in errors depend on it,
    and so does a streamed ORDER BY.
    """
    with tempfile.TemporaryDirectory(prefix="storecast-ingest-") as folder:
        connection = duckdb.connect(
            f"{folder}/rows.duckdb",
            config={
                "memory_limit": settings.ingest.memory_limit,
                "temp_directory": f"{folder}/spill",
                "preserve_insertion_order": True,
                "autoinstall_known_extensions": False,
            },
        )
        try:
            connection.execute("SET enable_progress_bar = true")
            connection.execute("SET enable_progress_bar_print = false")
            connection.execute(f"SET TimeZone = {text(settings.time_zone)}")
            yield Workspace(connection, Path(folder))
        finally:
            connection.close()


def name(identifier: str) -> str:
    """`identifier` as SQL writes a name."""
    return '"' + identifier.replace('"', '""') + '"'


def text(value: str) -> str:
    """`value` as SQL writes a text."""
    return "'" + value.replace("'", "''") + "'"
