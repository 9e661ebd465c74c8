"""DuckDB as the ingest uses it: in memory up to a limit, beyond it in a temporary directory."""

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
_SPILL = "spill"
_DISK = "max_temp_directory_size"
"""DuckDB's word for what is free on the disk of its temporary directory."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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

    def trouble(self, error: Exception) -> StorageError | None:
        """What an error says of the workspace, where memory or disk ran out and no file is bad."""
        first = str(error).splitlines()[0] if str(error) else ""
        if isinstance(error, duckdb.OutOfMemoryException) and _DISK not in str(error):
            return StorageError(f"ingest.memory_limit is too small: {first}")
        is_full = isinstance(error, duckdb.OutOfMemoryException) or (
            isinstance(error, OSError) and error.errno in _FULL
        )
        spilt = isinstance(error, duckdb.Error | pa.ArrowException | OSError) and (
            str(self.folder / _SPILL) in str(error)
        )
        if is_full or spilt:
            return StorageError(f"no room is left to work in {self.folder}: {first}")
        return None

    def run(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, list(parameters)).fetchall()


@contextmanager
def workspace(settings: Settings) -> Iterator[Workspace]:
    """A connection and a directory that are gone afterwards. Raises StorageError where memory or
    disk ran out.

    Rows keep the order of the file that they were read from: their numbers in errors depend on it,
    and so does a streamed ORDER BY.
    """
    with tempfile.TemporaryDirectory(prefix="storecast-ingest-") as folder:
        connection = duckdb.connect(
            config={
                "memory_limit": settings.ingest.memory_limit,
                "temp_directory": f"{folder}/{_SPILL}",
                "preserve_insertion_order": True,
                "autoinstall_known_extensions": False,
            }
        )
        work = Workspace(connection, Path(folder))
        try:
            connection.execute("SET enable_progress_bar = true")
            connection.execute("SET enable_progress_bar_print = false")
            connection.execute(f"SET TimeZone = {text(settings.time_zone)}")
            yield work
        except Exception as error:
            if (trouble := work.trouble(error)) is not None:
                raise trouble from error
            raise
        finally:
            connection.close()


def name(identifier: str) -> str:
    """`identifier` as SQL writes a name."""
    return '"' + identifier.replace('"', '""') + '"'


def text(value: str) -> str:
    """`value` as SQL writes a text."""
    return "'" + value.replace("'", "''") + "'"
