"""Tables on local disk as Arrow files, memory-mapped, made once each; stores by bisection."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

_OPEN = 256


class ColumnFiles:
    """Thread-safe. The least recently used files go when there are too many."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tables: OrderedDict[str, pa.Table] = OrderedDict()
        self._guard = threading.Lock()

    def held(self, name: str) -> pa.Table | None:
        with self._guard:
            found = self._tables.get(name)
            if found is not None:
                self._tables.move_to_end(name)
            return found

    def get(self, name: str, make: Callable[[], pa.Table]) -> pa.Table:
        """The table of that name; `make` is called once, and its table written, sorted by store.

        `name` must be a file name, and stand for what never changes.
        """
        found = self.held(name)
        if found is not None:
            return found
        path = self._folder / f"{name}.columns"
        if not path.exists():
            table = make().sort_by("store_id").combine_chunks()
            temporary = path.with_suffix(f".{threading.get_ident()}")
            with (
                pa.OSFile(str(temporary), "wb") as sink,
                pa.ipc.new_file(sink, table.schema) as writer,
            ):
                writer.write_table(table)
            temporary.replace(path)
        found = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        with self._guard:
            self._tables[name] = found
            if len(self._tables) > _OPEN:
                oldest, _ = self._tables.popitem(last=False)
                (self._folder / f"{oldest}.columns").unlink(missing_ok=True)
        return found


def rows_of(table: pa.Table, store_id: str) -> pa.Table:
    ids = _Ids(table.column("store_id"))
    first = bisect_left(ids, store_id)
    return table.slice(first, bisect_right(ids, store_id, first) - first)


class _Ids(Sequence[str]):
    """A column of text as a sequence for `bisect`, which reads a few of its values only."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        value: str = self._column[index].as_py()
        return value
