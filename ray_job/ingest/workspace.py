"""DuckDB as the ingest uses it: with a limit to its memory, and the rows in a temporary directory.

The rows lie in a database file. What DuckDB needs of it in memory it can drop again at any time;
pages of a temporary table it would have to write out first, and gives up where it has no room.
"""

from __future__ import annotations

import errno
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
_ROWS = "rows.duckdb"
_SPILL = "spill"
_DISK = "max_temp_directory_size"
"""DuckDB's word for what is free on the disk of its temporary directory."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MEMORY = "Out of Memory Error"
"""How DuckDB's error begins where Arrow tells it: within a stream."""


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
        return self.connection.execute(sql, list(parameters)).fetchall()

    def stream(self, sql: str) -> pa.RecordBatchReader:
        """The rows in batches, once a sort is done; the next query ends the stream."""
        return self.connection.sql(sql).to_arrow_reader(_BATCH_ROWS)

    def close(self) -> None:
        """Give DuckDB's memory back. No query can follow; what lies in the folder stays."""
        self.connection.close()


@contextmanager
def workspace(settings: Settings) -> Iterator[Workspace]:
    """A connection and a directory that are gone afterwards. Raises StorageError where memory or
    disk ran out.

    Rows keep the order of the file that they were read from: their numbers in errors depend on it,
    and so does a streamed ORDER BY.
    """
    with tempfile.TemporaryDirectory(prefix="storecast-ingest-") as folder:
        try:
            with _connected(settings, folder) as work:
                yield work
        except Exception as error:
            if (short := shortage(Path(folder), error)) is not None:
                raise short from error
            raise


@contextmanager
def _connected(settings: Settings, folder: str) -> Iterator[Workspace]:
    connection = duckdb.connect(
        f"{folder}/{_ROWS}",
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
        # Nobody reads the rows' file again: what is left of it need not be written at the end.
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        connection.execute(f"SET TimeZone = {text(settings.time_zone)}")
        yield Workspace(connection, Path(folder))
    finally:
        connection.close()


def shortage(folder: Path, error: Exception) -> StorageError | None:
    """What an error says of the workspace in `folder`, where its memory or disk ran out and no file
    is bad; None for any other."""
    told = str(error)
    first = told.splitlines()[0] if told else ""
    out = isinstance(error, duckdb.OutOfMemoryException) or (
        isinstance(error, OSError) and first.startswith(_MEMORY)
    )
    if out and _DISK not in told:
        return StorageError(f"ingest.memory_limit is too small: {first}")
    is_full = out or (isinstance(error, OSError) and error.errno in _FULL)
    ours = isinstance(error, duckdb.Error | pa.ArrowException | OSError) and any(
        str(folder / name) in told for name in (_ROWS, _SPILL)
    )
    if is_full or ours:
        return StorageError(f"no room is left to work in {folder}: {first}")
    return None


def name(identifier: str) -> str:
    """`identifier` as SQL writes a name."""
    return '"' + identifier.replace('"', '""') + '"'


def text(value: str) -> str:
    """`value` as SQL writes a text."""
    return "'" + value.replace("'", "''") + "'"
