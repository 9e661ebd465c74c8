"""Tables sorted by store on the local disk, as memory-mapped Arrow files."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
from cachetools import LRUCache

from api.store.local.checked_files import CheckedFiles

_MAX_TABLES = 256


class TableCache:
    """Up to `max_tables` tables by name. Thread-safe.

    The files of the least recently used tables are deleted.
    """

    def __init__(self, folder: Path, max_tables: int = _MAX_TABLES) -> None:
        self._files = CheckedFiles(folder, "columns")
        self._tables = _MappedTables(max_tables, self._files)
        self._lock = threading.Lock()

    def find(self, name: str) -> pa.Table | None:
        """The table `name`, sorted by store, or None if there is no file of it."""
        with self._lock:
            table = self._tables.get(name)
        if table is None:
            path = self._files.find(name)
            if path is not None:
                table = self._map(name, path)
        return table

    def get(self, name: str, make: Callable[[], pa.Table]) -> pa.Table:
        """The table `name`, sorted by store. `make` is called if there is no file of that name.

        `name` must be a file name without a hyphen. The table of a name must never change.
        """
        table = self.find(name)
        if table is not None:
            return table
        made = make().sort_by("store_id").combine_chunks()

        def write(path: Path) -> None:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, made.schema) as writer:
                writer.write_table(made)

        return self._map(name, self._files.write(name, write))

    def _map(self, name: str, path: Path) -> pa.Table:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        with self._lock:
            self._tables[name] = table
        return table


class _MappedTables(LRUCache[str, pa.Table]):
    """Deletes the file of a table that it gives up. The table stays readable while it is mapped."""

    def __init__(self, maxsize: int, files: CheckedFiles) -> None:
        super().__init__(maxsize)
        self._files = files

    def popitem(self) -> tuple[str, pa.Table]:
        name, table = super().popitem()
        self._files.remove(name)
        return name, table


def rows_of(table: pa.Table, store_id: str) -> pa.Table:
    """The rows of one store. `table` must be sorted by `store_id`."""
    ids = _TextColumn(table.column("store_id"))
    first = bisect_left(ids, store_id)
    return table.slice(first, bisect_right(ids, store_id, first) - first)


class _TextColumn(Sequence[str]):
    """A column of text as a sequence for `bisect`, which reads only a few of its values."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        value: str = self._column[index].as_py()
        return value
