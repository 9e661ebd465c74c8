"""DuckDB as the ingest uses it: in memory up to a limit, beyond it in a temporary directory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from ray_job.settings import Settings


@dataclass(frozen=True, slots=True)
class Workspace:
    connection: duckdb.DuckDBPyConnection
    folder: Path

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
