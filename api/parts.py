"""Parts on local disk as Arrow files, memory-mapped: a read costs no storage call and no memory.

A part is fetched once, verified against the sha256 that the release names, and written under that
digest; so a cached file is never another part, and a restart finds it again.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from api.snapshot import PartRange
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
)
_DICTIONARIES = ("store_id", "method")
_BATCH_ROWS = 65_536
_FETCHERS = 2


class PartCache:
    """Thread-safe. The folder is the cache's own; without one it is temporary."""

    def __init__(
        self, storage: Storage, folder: Path | None, on_read: Callable[[], None] = lambda: None
    ) -> None:
        self._storage = storage
        self._on_read = on_read
        self._temporary = folder is None
        self._folder = Path(tempfile.mkdtemp(prefix="storecast-")) if folder is None else folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._tables: dict[str, pa.Table] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    @property
    def folder(self) -> Path:
        return self._folder

    def fetch(self, objects: dict[str, str]) -> None:
        """Have all these parts (key to sha256) at hand.

        Raises NotFoundError, StorageError, or CorruptError where a part's bytes are not those.
        """
        with ThreadPoolExecutor(_FETCHERS, "parts") as pool:
            for _ in pool.map(lambda each: self._table(each[0], each[1]), objects.items()):
                pass
        pa.default_memory_pool().release_unused()

    def rows(self, store_id: str, where: PartRange) -> pa.Table:
        """The rows of a store in a part. Raises CorruptError where they are another store's."""
        table = self._table(where.key, where.sha256)
        if where.first_row < 0 or where.first_row + where.rows > table.num_rows:
            raise CorruptError(f"{where.key}: the part has fewer rows than the release says")
        found = table.slice(where.first_row, where.rows)
        if where.rows:
            ids = found.column("store_id")
            if not ids[0].as_py() == ids[where.rows - 1].as_py() == store_id:
                raise CorruptError(f"{where.key}: the rows are not those of store {store_id}")
        return found

    def keep_only(self, digests: Collection[str]) -> None:
        """Forget every other part; what is being read stays mapped until it was read."""
        with self._guard:
            self._tables = {
                digest: table for digest, table in self._tables.items() if digest in digests
            }
            self._locks = {digest: lock for digest, lock in self._locks.items() if lock.locked()}
            for path in self._folder.glob("*.arrow"):
                if path.stem not in digests:
                    path.unlink(missing_ok=True)

    def close(self) -> None:
        self._tables = {}
        if self._temporary:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _table(self, key: str, digest: str) -> pa.Table:
        found = self._tables.get(digest)
        if found is not None:
            return found
        with self._guard:
            lock = self._locks.setdefault(digest, threading.Lock())
        with lock:
            found = self._tables.get(digest)
            if found is None:
                path = self._folder / f"{digest}.arrow"
                if not path.exists():
                    self._on_read()
                    _write(self._storage.read(key), key, digest, path)
                found = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
                self._tables[digest] = found
        return found


def _write(data: bytes, key: str, digest: str, path: Path) -> None:
    if parts.sha256(data) != digest:
        raise CorruptError(f"{key}: the bytes are not those that the release names (sha256)")
    table = parts.read_rows(data, key).select(list(COLUMNS)).combine_chunks()
    for name in _DICTIONARIES:
        index = table.column_names.index(name)
        table = table.set_column(index, name, table.column(name).dictionary_encode())
    temporary = path.with_suffix(f".{threading.get_ident()}")
    with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=_BATCH_ROWS)
    temporary.replace(path)
