"""A bucket for tests of the ingest: it delivers files, ingests them, and reads the tables."""

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from ray_job.bucket import keys
from ray_job.bucket.storage import Storage
from ray_job.data.delta import (
    STORE,
    arrow_schema,
    list_files,
    open_table,
    partition_key,
    stored_schema,
)
from ray_job.data.parquet import read_batches
from ray_job.ingest import IngestReport, ingest
from ray_job.ingest.writing.context_tables import read_context_table
from ray_job.settings import Settings

NOW = datetime(2026, 11, 23, 0, 5, tzinfo=UTC)


@dataclass(frozen=True)
class DeliveryBucket:
    """A bucket with its settings. `folder` is a local directory for files of commands."""

    storage: Storage
    settings: Settings
    folder: Path

    def with_settings(self, **sections: Any) -> "DeliveryBucket":
        return replace(self, settings=self.settings.model_copy(update=sections))

    def file(self, name: str, content: str | bytes) -> Path:
        """A local file for the command line."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def drop(self, name: str, content: str | bytes, *, minute: int | None = None) -> str:
        """Put a raw file into raw_data; in a directory, with a time of change of that minute."""
        key = f"{keys.RAW_DATA}{name}"
        data = content if isinstance(content, bytes) else content.encode()
        info = self.storage.stat(key)
        self.storage.replace(key, data, None if info is None else info.generation)
        if minute is not None and not self.is_gcs:
            moment = NOW.timestamp() + 60 * minute
            os.utime(Path(self.storage.url) / key, (moment, moment))
        return key

    @property
    def is_gcs(self) -> bool:
        return self.storage.url.startswith("gs://")

    def ingest(self, *files: Path, **options: Any) -> IngestReport:
        return ingest(self.storage, self.settings, files, **{"now": NOW, **options})

    def history(self) -> pa.Table:
        """All rows of the histories, sorted by store, item, date and delivery."""
        table = open_table(self.storage, keys.BATCH_DATA)
        if table is None:
            return pa.table({STORE: pa.array([], pa.string())})
        stored = stored_schema(arrow_schema(table))
        parts = []
        for file in list_files(table).to_pylist():
            batches = read_batches(self.storage, partition_key(file["path"]), file["size"], stored)
            rows = pa.Table.from_batches(batches, stored)
            store = pa.repeat(file["store_id"], rows.num_rows).cast(pa.string())
            parts.append(rows.add_column(0, STORE, store))
        if not parts:
            return pa.table({STORE: pa.array([], pa.string())})
        order = [STORE, "item_id", "date", "delivered_at"]
        return pa.concat_tables(parts).sort_by([(name, "ascending") for name in order])

    def rows(self, *columns: str) -> list[tuple[Any, ...]]:
        """These columns of the histories' rows, dates as text."""
        rows = self.history().select(list(columns)).to_pylist()
        return [tuple(_plain(row[name]) for name in columns) for row in rows]

    def context(self, kind: str) -> list[dict[str, Any]]:
        """The rows of a context table, without `delivered_at`."""
        root = keys.context(kind)
        table = open_table(self.storage, root)
        if table is None:
            return []
        rows = read_context_table(self.storage, root, table).drop(["delivered_at"]).to_pylist()
        return [{name: _plain(value) for name, value in row.items()} for row in rows]

    def files_of(self, store_id: str) -> list[str]:
        table = open_table(self.storage, keys.BATCH_DATA)
        assert table is not None
        files = list_files(table).to_pylist()
        return [file["path"] for file in files if file["store_id"] == store_id]

    def objects(self, prefix: str = "") -> list[str]:
        return [info.key for info in self.storage.list(prefix)]

    def everything(self) -> dict[str, str]:
        """The checksum of every object, by key. Equal results mean that nothing changed."""
        listed = self.storage.list("")
        return {info.key: self.storage.checksum(info) for info in listed if ".lock" not in info.key}


def _plain(value: Any) -> Any:
    """Dates and times as text."""
    return value.isoformat() if hasattr(value, "isoformat") else value
