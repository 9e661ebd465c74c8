"""Packs of what is in the histories and in no pack: of a program without packs, or lost ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket import keys
from ray_job.bucket.errors import CorruptError, NotFoundError, StorageError, StorecastError
from ray_job.bucket.storage import Storage
from ray_job.data.delta import DataFile, open_snapshot, partition_key, stored_schema
from ray_job.data.packs.folding import PackedFile, PackSource, has_packed_form
from ray_job.data.packs.index import file_name, read_index, store_hash
from ray_job.data.packs.writing import PackWriter
from ray_job.data.parquet import read_batches
from ray_job.data.requests import map_in_order
from ray_job.data.table_files import own_names
from ray_job.progress import Progress, SilentProgress

MOST_FILES = 150_000
"""A night packs no commit more once it has so many files. On Cloud Storage this takes minutes."""
_LARGE_ROWS = 1_000_000
"""A file with more rows is packed piece by piece. One of 50 million is not read at once."""
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class PackingReport:
    """Numbers of files and rows of the packed commits; `failure` says why the rest was not."""

    files: int = 0
    rows: int = 0
    failure: str | None = None


def pack_histories(
    storage: Storage, *, most_files: int = MOST_FILES, progress: Progress | None = None
) -> PackingReport:
    """Pack the files of commits of ours that no pack has, those with the most files first.

    Whole commits only, and none more after `most_files`; the next call goes on. A file that cannot
    be read is passed over. Idempotent, and harmless beside other calls and ingests: at worst two
    packs have the same rows, of which readers use one. Whatever goes wrong is in the report, since
    a run can do without packs.
    """
    packing = _Packing(storage, progress or SilentProgress())
    try:
        packing.pack(most_files)
    except Exception as error:  # noqa: BLE001 - packs end no night
        packing.fail(error)
    return packing.report


@dataclass(slots=True)
class _Packing:
    """`report` has what is done so far, and the first failure."""

    storage: Storage
    progress: Progress
    report: PackingReport = PackingReport()

    def fail(self, error: Exception) -> None:
        if self.report.failure is None:
            prefix = "" if isinstance(error, StorecastError) else f"{type(error).__name__}: "
            self.report = replace(self.report, failure=prefix + str(error).partition("\n")[0])

    def pack(self, most_files: int) -> None:
        snapshot = open_snapshot(self.storage, keys.BATCH_DATA)
        if snapshot is None:
            return
        schema = stored_schema(snapshot.columns)
        if not has_packed_form(schema):
            return
        for files in _commits_without_packs(self.storage, snapshot.files):
            if self.report.files >= most_files:
                return
            self._pack_commit(files, schema)

    def _pack_commit(self, files: Sequence[DataFile], schema: pa.Schema) -> None:
        writer = PackWriter(self.storage)
        read = 0
        with self.progress.stage("pack", len(files), "stores") as stage:
            for file, rows in self._rows_of_files(files, schema):
                read += not isinstance(rows, StorecastError)
                if isinstance(rows, pa.Table):
                    writer.add(PackSource(_store(file), [_packed_file(file)], rows))
                elif rows is None:
                    tables = partial(_tables, self.storage, file, schema)
                    writer.add_large(_store(file), _packed_file(file), tables)
                else:
                    self.fail(rows)
                stage.advance(rows=file.rows)
        writer.finish()
        writer.publish()
        if writer.failure is not None:
            raise StorageError(writer.failure)
        if writer.written:  # what has another form than ours must not use up the night's number
            self.report = replace(
                self.report,
                files=self.report.files + read,
                rows=self.report.rows + sum(pack.rows for pack in writer.written),
            )

    def _rows_of_files(
        self, files: Sequence[DataFile], schema: pa.Schema
    ) -> Iterator[tuple[DataFile, pa.Table | StorecastError | None]]:
        """Each file with its rows; None where it is too large, an error where it is damaged."""

        def read(file: DataFile) -> tuple[DataFile, pa.Table | StorecastError | None]:
            if file.rows > _LARGE_ROWS:
                return file, None
            try:
                batches = _batches(self.storage, file, schema)
                return file, pa.Table.from_batches(batches, schema)
            except (CorruptError, NotFoundError) as error:
                return file, error

        return map_in_order(self.storage, read, files)


def _commits_without_packs(storage: Storage, files: pa.Table) -> list[list[DataFile]]:
    """The files of each commit of ours that is in no pack, in the order of the stores' hashes."""
    packed = {name for pack in read_index(storage).packs for name in pack.files}
    own = files.filter(pc.and_(own_names(files["path"]), pc.is_valid(files["first_date"])))
    commits: dict[str, list[DataFile]] = {}
    for row in own.to_pylist():
        name = file_name(row["path"])
        if name not in packed:
            commits.setdefault(name, []).append(DataFile(**row))
    ordered = sorted(commits.items(), key=lambda commit: (-len(commit[1]), commit[0]))
    return [sorted(files, key=_hash_of_store) for _, files in ordered]


def _hash_of_store(file: DataFile) -> tuple[int, str]:
    return store_hash(_store(file)), _store(file)


def _store(file: DataFile) -> str:
    return file.store_id or ""


def _packed_file(file: DataFile) -> PackedFile:
    if file.first_date is None or file.last_date is None:
        raise CorruptError(f"{partition_key(file.path)}: the log has no dates of it")
    days = ((file.first_date - _EPOCH).days, (file.last_date - _EPOCH).days)
    return PackedFile(partition_key(file.path), file.size, *days)


def _batches(storage: Storage, file: DataFile, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    return read_batches(storage, partition_key(file.path), file.size, schema)


def _tables(storage: Storage, file: DataFile, schema: pa.Schema) -> Iterator[pa.Table]:
    for batch in _batches(storage, file, schema):
        yield pa.Table.from_batches([batch])
