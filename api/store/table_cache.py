"""Tables sorted by store on the local disk, as memory-mapped Arrow files."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
from cachetools import LRUCache

_MAX_TABLES = 256


class TableCache:
    """Up to `max_tables` tables by name. Thread-safe.

    The files of the least recently used tables are deleted.
    """

    def __init__(self, folder: Path, max_tables: int = _MAX_TABLES) -> None:
        self._folder = folder
        self._tables = _MappedTables(max_tables, folder)
        self._lock = threading.Lock()

    def get(self, name: str, make: Callable[[], pa.Table]) -> pa.Table:
        """The table `name`, sorted by store. `make` is called if there is no file of that name.

        `name` must be a file name. The table of a name must never change.
        """
        with self._lock:
            table = self._tables.get(name)
        if table is not None:
            return table
        path = _path(self._folder, name)
        if not path.exists():
            made = make().sort_by("store_id").combine_chunks()
            temporary = path.with_suffix(f".{threading.get_ident()}")
            with (
                pa.OSFile(str(temporary), "wb") as sink,
                pa.ipc.new_file(sink, made.schema) as writer,
            ):
                writer.write_table(made)
            temporary.replace(path)
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        with self._lock:
            self._tables[name] = table
        return table


class _MappedTables(LRUCache[str, pa.Table]):
    """Deletes the file of a table that it gives up. The table stays readable while it is mapped."""

    def __init__(self, maxsize: int, folder: Path) -> None:
        super().__init__(maxsize)
        self._folder = folder

    def popitem(self) -> tuple[str, pa.Table]:
        name, table = super().popitem()
        _path(self._folder, name).unlink(missing_ok=True)
        return name, table


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.columns"


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
