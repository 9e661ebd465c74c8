"""DuckDB for an ingest: with limited memory, and with all rows in a temporary directory.

The rows lie in tables of a database file, not in temporary tables. DuckDB can drop pages of a
database file from memory at any time. It must write pages of a temporary table first, and fails if
it has no memory for that.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from ray_job.bucket.errors import DISK_FULL, StorageError
from ray_job.data.requests import working_folder
from ray_job.interruption import raise_if_interrupted
from ray_job.progress import Stage
from ray_job.settings import Settings

_WATCH_SECONDS = 1.0
_BATCH_ROWS = 100_000
_DATABASE = "rows.duckdb"
_SPILL = "spill"
_DISK_LIMIT = "max_temp_directory_size"
"""DuckDB's message contains this if the disk of its temporary directory is full."""
_OUT_OF_MEMORY = "Out of Memory Error"
"""DuckDB's message begins with this if Arrow raises it, while a stream is read."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """A connection to DuckDB, and a temporary directory."""

    connection: duckdb.DuckDBPyConnection
    folder: Path

    @contextmanager
    def watched(self, stage: Stage) -> Iterator[None]:
        """Report the progress of the running query to `stage` every second."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(_WATCH_SECONDS):
                try:
                    percent = self.connection.query_progress()
                except duckdb.ConnectionException:
                    return  # a signal has ended the command, and closed the connection
                if percent >= 0:
                    stage.advance(0, query_percent=round(percent))

        watcher = threading.Thread(target=watch, name="ingest-progress", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def run(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query's result. Raises Interrupted if a signal came meanwhile."""
        rows = self.connection.execute(sql, list(parameters)).fetchall()
        # DuckDB may drop what the handler of a signal raises, and go on.
        raise_if_interrupted()
        return rows

    def stream(self, sql: str) -> pa.RecordBatchReader:
        """The rows of a query's result in batches. The next query ends the stream."""
        return self.connection.sql(sql).to_arrow_reader(_BATCH_ROWS)

    def close(self) -> None:
        """Free DuckDB's memory. No query is possible then; the files in the folder stay."""
        self.connection.close()


@contextmanager
def open_workspace(settings: Settings) -> Iterator[Workspace]:
    """A workspace that is deleted afterwards.

    Tables keep the order of the rows in their file, since row numbers in messages depend on it.
    Raises StorageError if memory or the disk are full.
    """
    with working_folder() as folder:
        if "?" in str(folder):
            raise StorageError(
                f"{folder}: DuckDB reads '?' differently: set TMPDIR to another path"
            )
        try:
            with _connected(settings, str(folder)) as workspace:
                yield workspace
        except Exception as error:
            if (storage_error := shortage(folder, error)) is not None:
                raise storage_error from error
            raise


@contextmanager
def _connected(settings: Settings, folder: str) -> Iterator[Workspace]:
    connection = duckdb.connect(
        f"{folder}/{_DATABASE}",
        config={
            "memory_limit": settings.ingest.memory_limit,
            "temp_directory": f"{folder}/{_SPILL}",
            "preserve_insertion_order": True,
            "autoinstall_known_extensions": False,
        },
    )
    try:
        connection.execute("SET enable_progress_bar = true")
        connection.execute("SET enable_progress_bar_print = false")
        # Nobody opens the database file again, so that its last pages need not be written.
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        connection.execute(f"SET TimeZone = {quote_text(settings.time_zone)}")
        yield Workspace(connection, Path(folder))
    finally:
        connection.close()


def shortage(folder: Path, error: Exception) -> StorageError | None:
    """Our error if memory or the disk of `folder` was full, None for any other error.

    Raises Interrupted if the error is that of a query which a signal ended.
    """
    raise_if_interrupted()
    message = str(error)
    first_line = message.splitlines()[0] if message else ""
    is_out_of_memory = isinstance(error, duckdb.OutOfMemoryException) or (
        isinstance(error, OSError) and first_line.startswith(_OUT_OF_MEMORY)
    )
    if is_out_of_memory and _DISK_LIMIT not in message:
        return StorageError(
            f"ingest.memory_limit is too small: raise it in the settings ({first_line})"
        )
    is_full = is_out_of_memory or (isinstance(error, OSError) and error.errno in DISK_FULL)
    names_workspace = isinstance(error, duckdb.Error | pa.ArrowException | OSError) and any(
        str(folder / name) in message for name in (_DATABASE, _SPILL)
    )
    if is_full or names_workspace:
        return StorageError(
            f"{folder}: the disk is full or cannot be written:"
            f" free some space, or set TMPDIR to another disk ({first_line})"
        )
    return None


def united(selects: Sequence[str]) -> str:
    """SQL of a subquery with the rows of all queries, columns by name.

    A sort of DuckDB (2.0) decides by the first query whether it writes to disk, and fails where the
    others have more rows than its memory holds. So it gets one query, whose rows are kept first.
    """
    if len(selects) == 1:
        return f"({selects[0]})"
    rows = " UNION ALL BY NAME ".join(f"({select})" for select in selects)
    return f"(WITH united AS MATERIALIZED ({rows}) SELECT * FROM united)"  # noqa: S608


def quote_name(name: str) -> str:
    """A name, such as that of a column, in SQL."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"
