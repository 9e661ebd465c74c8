"""DuckDB as the ingest uses it: in memory up to a limit, beyond it in a temporary directory."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from ray_job.progress import Stage
from ray_job.settings import Settings

_WATCH_SECONDS = 1.0


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


@contextmanager
def workspace(settings: Settings) -> Iterator[Workspace]:
    """A connection and a directory that are gone afterwards.

    Rows keep the order of the file that they were read from: their numbers in errors depend on it,
    and so does a streamed ORDER BY.
    """
    with tempfile.TemporaryDirectory(prefix="storecast-ingest-") as folder:
        connection = duckdb.connect(
            config={
                "memory_limit": settings.ingest.memory_limit,
                "temp_directory": f"{folder}/spill",
                "preserve_insertion_order": True,
                "autoinstall_known_extensions": False,
            }
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
