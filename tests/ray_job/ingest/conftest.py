"""An ingest's world: an empty bucket, on a directory or on the fake GCS, and files to deliver."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ray_job.bucket import keys
from ray_job.bucket.storage import Storage, open_bucket
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
from ray_job.ingest.context import read_table
from ray_job.settings import Settings
from tests.fake_gcs import FakeGcs

NOW = datetime(2026, 11, 23, 0, 5, tzinfo=UTC)


@dataclass(frozen=True)
class Desk:
    """Someone who delivers files, has them brought in and looks what is in the tables."""

    storage: Storage
    settings: Settings
    folder: Path

    def with_settings(self, **sections: Any) -> "Desk":
        return replace(self, settings=self.settings.model_copy(update=sections))

    def file(self, name: str, content: str | bytes) -> Path:
        """A file that lies anywhere, to be given on the command line."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def drop(self, name: str, content: str | bytes, *, minute: int | None = None) -> str:
        """A file that somebody else put into raw_data; in a directory, as of that minute."""
        key = f"{keys.RAW_DATA}{name}"
        data = content if isinstance(content, bytes) else content.encode()
        there = self.storage.stat(key)
        self.storage.replace(key, data, None if there is None else there.generation)
        if minute is not None and not self.is_gcs:
            moment = NOW.timestamp() + 60 * minute
            os.utime(Path(self.storage.url) / key, (moment, moment))
        return key

    @property
    def is_gcs(self) -> bool:
        return self.storage.url.startswith("gs://")

    def ingest(self, *files: Path, **how: Any) -> IngestReport:
        return ingest(self.storage, self.settings, files, **{"now": NOW, **how})

    def history(self) -> pa.Table:
        """Every stored row with its store, by store, item, date and delivery."""
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
        """The history's rows, these columns of them, dates as text."""
        taken = self.history().select(list(columns)).to_pylist()
        return [tuple(_told(row[name]) for name in columns) for row in taken]

    def context(self, kind: str) -> list[dict[str, Any]]:
        """A context table's rows without their delivery."""
        root = keys.context(kind)
        table = open_table(self.storage, root)
        if table is None:
            return []
        rows = read_table(self.storage, root, table).drop(["delivered_at"]).to_pylist()
        return [{name: _told(value) for name, value in row.items()} for row in rows]

    def files_of(self, store_id: str) -> list[str]:
        table = open_table(self.storage, keys.BATCH_DATA)
        assert table is not None
        files = list_files(table).to_pylist()
        return [file["path"] for file in files if file["store_id"] == store_id]

    def objects(self, prefix: str = "") -> list[str]:
        return [info.key for info in self.storage.list(prefix)]

    def everything(self) -> dict[str, str]:
        """Every object of the bucket with its checksum: equal before and after means untouched."""
        listed = self.storage.list("")
        return {info.key: self.storage.checksum(info) for info in listed if ".lock" not in info.key}


def _told(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


@pytest.fixture(scope="session")
def gcs() -> Iterator[FakeGcs]:
    with FakeGcs.serve() as service:
        yield service


@pytest.fixture
def gcs_bucket(gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGcs]:
    """The fake, with one empty bucket named `shop`."""
    gcs.reset()
    gcs.create_bucket("shop")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
    yield gcs
    gcs.reset()


@pytest.fixture(params=["directory", "gcs"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "gcs":
        request.getfixturevalue("gcs_bucket")
        return open_bucket("gs://shop/chain")
    (tmp_path / "bucket").mkdir()
    return open_bucket(str(tmp_path / "bucket"))


@pytest.fixture
def desk(storage: Storage, tmp_path: Path) -> Desk:
    return Desk(storage, Settings(), tmp_path / "desk")
