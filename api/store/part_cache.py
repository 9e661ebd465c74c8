"""Parts on the local disk, as memory-mapped Arrow files.

A part is fetched once, verified against the sha256 in the release, and written to a file whose name
begins with that digest. A process that starts again uses the files of the one before.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from api.store.local.checked_files import CheckedFiles
from api.store.snapshot import PartRange
from ray_job.bucket import parts
from ray_job.bucket.errors import CorruptError
from ray_job.bucket.storage import Storage

COLUMNS = (
    "store_id",
    "item_id",
    "target_date",
    "days_ahead",
    "predicted_sales",
    "lower_80",
    "upper_80",
    "method",
    "last_week",
)
_DICTIONARIES = ("store_id", "method")
_BATCH_ROWS = 65_536
_FETCHERS = 2


class PartCache:
    """Thread-safe. No other process may use `folder`. None: a temporary folder.

    `on_read` is called before each read of the bucket.
    """

    def __init__(
        self, storage: Storage, folder: Path | None, on_read: Callable[[], None] = lambda: None
    ) -> None:
        self._storage = storage
        self._on_read = on_read
        self._temporary = folder is None
        self._folder = Path(tempfile.mkdtemp(prefix="storecast-")) if folder is None else folder
        self._files = CheckedFiles(self._folder, "arrow")
        self._tables: dict[str, pa.Table] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    @property
    def folder(self) -> Path:
        return self._folder

    def fetch(self, objects: dict[str, str]) -> None:
        """Fetch all these parts (key to sha256) that are not cached.

        Raises NotFoundError, StorageError, or CorruptError if a part has another digest.
        """
        with ThreadPoolExecutor(_FETCHERS, "parts") as pool:
            for _ in pool.map(lambda key_digest: self._table(*key_digest), objects.items()):
                pass
        pa.default_memory_pool().release_unused()

    def is_local(self, part_ranges: Iterable[PartRange]) -> bool:
        """Whether the rows of all these ranges can be read without the bucket."""
        names = self._files.names()
        return all(
            part_range.sha256 in self._tables or part_range.sha256 in names
            for part_range in part_ranges
        )

    def map_local(self, objects: dict[str, str]) -> None:
        """Map all these parts (key to sha256). Raises CorruptError if one is not on the disk."""
        for key, digest in objects.items():
            if self._files.find(digest) is None:
                raise CorruptError(f"{key}: no whole copy of the part is on the disk")
            self._table(key, digest)

    def rows(self, store_id: str, part_range: PartRange) -> pa.Table:
        """The rows (COLUMNS) of a store in a part.

        Raises CorruptError if the range is outside of the part or holds rows of another store.
        """
        key, count = part_range.key, part_range.rows
        table = self._table(key, part_range.sha256)
        if part_range.first_row < 0 or part_range.first_row + count > table.num_rows:
            raise CorruptError(f"{key}: the part has fewer rows than the release says")
        rows = table.slice(part_range.first_row, count)
        if count:
            ids = rows.column("store_id")
            if not ids[0].as_py() == ids[count - 1].as_py() == store_id:
                raise CorruptError(f"{key}: the rows are not those of store {store_id}")
        return rows

    def keep_only(self, digests: Collection[str]) -> None:
        """Remove all other parts. A table that somebody still reads stays mapped."""
        with self._lock:
            self._tables = {
                digest: table for digest, table in self._tables.items() if digest in digests
            }
            self._locks = {digest: lock for digest, lock in self._locks.items() if lock.locked()}
            for name in self._files.names().difference(digests):
                self._files.remove(name)

    def close(self) -> None:
        self._tables = {}
        if self._temporary:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _table(self, key: str, digest: str) -> pa.Table:
        table = self._tables.get(digest)
        if table is not None:
            return table
        with self._lock:
            lock = self._locks.setdefault(digest, threading.Lock())
        with lock:
            table = self._tables.get(digest)
            if table is None:
                path = self._files.find(digest)
                if path is None:
                    self._on_read()
                    data = self._storage.read(key)
                    path = self._files.write(digest, lambda path: _write(data, key, digest, path))
                table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
                self._tables[digest] = table
        return table


def _write(data: bytes, key: str, digest: str, path: Path) -> None:
    if parts.sha256(data) != digest:
        raise CorruptError(f"{key}: the bytes do not have the sha256 that the release names")
    table = parts.read_rows(data, key).select(list(COLUMNS)).combine_chunks()
    for name in _DICTIONARIES:
        index = table.column_names.index(name)
        table = table.set_column(index, name, table.column(name).dictionary_encode())
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=_BATCH_ROWS)
