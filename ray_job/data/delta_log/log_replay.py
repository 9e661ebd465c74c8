"""The files of a table's snapshot, replayed from its log as Arrow arrays.

delta-rs takes 0.7 kB of memory for each file, and half of that again to list them: 1.5 GB for
100,000 stores with 16 files each. Here a file takes its path and six small values. The protocol is
Delta's (PROTOCOL.md, "Action Reconciliation"): the newest action on a path decides; an `add` puts
the file in, a `remove` takes it out. Logs that our own tables never have (checkpoints of version 2,
parsed statistics) raise UnsupportedLogError, and the caller uses delta-rs. `table_features` says
which features of other writers are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import Schema
from deltalake.exceptions import DeltaError

from ray_job.bucket.errors import CorruptError, NotFoundError
from ray_job.bucket.storage import Storage
from ray_job.data.delta_log.file_statistics import statistics_of
from ray_job.data.delta_log.json_lines import (
    CHECKPOINT,
    COMMIT,
    WAY_OUT,
    decoded_paths,
    read_lines,
    unquoted,
)
from ray_job.data.delta_log.table_features import (
    NewestHeader,
    TableFeatures,
    deletion_vector_error,
)
from ray_job.data.requests import is_local

FILES_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("store_id", pa.string()),
        ("size", pa.int64()),
        ("rows", pa.int64()),
        ("first_date", pa.date32()),
        ("last_date", pa.date32()),
        ("first_item", pa.string()),
        ("last_item", pa.string()),
        ("modified", pa.int64()),
    ]
)
"""One row for each file. `path` is relative to the table's root: `store_id=7/….parquet`. `modified`
is the time in ms that the log has."""

_CHECKPOINT_ROWS = 100_000

_ACTIONS = pa.schema(
    [
        (
            "add",
            pa.struct(
                [
                    ("path", pa.string()),
                    ("partitionValues", pa.struct([("store_id", pa.string())])),
                    ("size", pa.int64()),
                    ("modificationTime", pa.int64()),
                    ("stats", pa.string()),
                    ("deletionVector", pa.struct([("storageType", pa.string())])),
                ]
            ),
        ),
        ("remove", pa.struct([("path", pa.string())])),
        ("metaData", pa.struct([("schemaString", pa.string())])),
        ("protocol", pa.struct([("minReaderVersion", pa.int64())])),
        ("txn", pa.struct([("appId", pa.string()), ("version", pa.int64())])),
    ]
)


class UnsupportedLogError(Exception):
    """The log uses a feature that is not supported here; delta-rs may support it."""


@dataclass(frozen=True, slots=True)
class TableSnapshot:
    """A table at one version. `files` is of FILES_SCHEMA, sorted by store and path."""

    version: int
    columns: pa.Schema
    transactions: dict[str, int]
    """The newest version of each application transaction."""
    files: pa.Table
    features: TableFeatures = TableFeatures()  # noqa: RUF009 - it is frozen


def read(storage: Storage, root: str) -> TableSnapshot | None:
    """The newest snapshot of the table under `root`, None where there is no table.

    Raises UnsupportedLogError, CorruptError for a log that cannot be read, and InputError for a
    table with a feature that cannot be read.
    """
    log = _Log.of(storage, root)
    if log is None:
        return None
    _check_following(storage, log.folder, log.newest)
    replay = _Replay(root)
    for version in reversed(log.commits):
        key = f"{log.folder}/{version:020d}.json"
        data = storage.read(key)
        replay.take(version, read_lines(data, _ACTIONS, key), data)
    if log.checkpoint is not None:
        for key in log.parts:
            for actions in _checkpoint(storage, key):
                replay.take(log.checkpoint, actions)
    return replay.snapshot(log.newest)


@dataclass(frozen=True, slots=True)
class _Log:
    """The objects to replay: the newest checkpoint, if there is one, and the commits after it."""

    folder: str
    commits: Sequence[int]
    checkpoint: int | None
    parts: Sequence[str]

    @property
    def newest(self) -> int:
        return self.commits[-1] if self.commits else self.checkpoint or 0

    @classmethod
    def of(cls, storage: Storage, root: str) -> _Log | None:
        folder = f"{root}/_delta_log"
        commits: list[int] = []
        checkpoints: dict[tuple[int, int], list[str]] = {}
        for info in storage.list(f"{folder}/"):
            name = info.key.removeprefix(f"{folder}/")
            if match := COMMIT.fullmatch(name):
                commits.append(int(match[1]))
            elif match := CHECKPOINT.fullmatch(name):
                n_parts = int(match[3] or 1)
                checkpoints.setdefault((int(match[1]), n_parts), []).append(info.key)
            elif ".checkpoint." in name:
                raise UnsupportedLogError(f"{info.key}: a checkpoint of another kind")
        complete = [version for version, parts in checkpoints.items() if len(parts) == version[1]]
        if not commits and not complete:
            return None
        last = max(complete, default=None)
        begin = 0 if last is None else last[0] + 1
        after = sorted(version for version in commits if version >= begin)
        if after != list(range(begin, begin + len(after))):
            raise UnsupportedLogError(f"{folder}: a commit from {begin} on is missing")
        if last is None:
            return cls(folder, after, None, ())
        return cls(folder, after, last[0], sorted(checkpoints[last]))


@dataclass(slots=True)
class _Replay:
    """Collects the actions of one version after the other, the newest version first."""

    root: str
    added: list[pa.Table] = field(default_factory=list)
    removed: list[pa.ChunkedArray] = field(default_factory=list)
    """Paths that the versions so far remove."""
    header: NewestHeader = field(default_factory=NewestHeader)
    transactions: dict[str, int] = field(default_factory=dict)

    def take(self, version: int, actions: pa.Table, lines: bytes = b"") -> None:
        """The actions of a commit, with its `lines`, or of a checkpoint."""
        self.header.take(
            {kind: present(actions, kind).to_pylist() for kind in ("protocol", "metaData")}, lines
        )
        for transaction in present(actions, "txn").to_pylist():
            self.transactions.setdefault(transaction["appId"], transaction["version"])
        adds = present(actions, "add")
        if len(adds):
            self._check_fields(version, adds, ("path", "size"))
            adds = decoded_paths(adds)
        if len(adds) and self.removed:
            paths = pa.chunked_array([chunk for array in self.removed for chunk in array.chunks])
            is_removed = pc.is_in(pc.struct_field(adds, "path"), paths)
            adds = adds.filter(pc.invert(is_removed))
        if len(adds):
            self._refuse_deletion_vectors(adds)
            self.added.append(_files(adds, version))
        removes = present(actions, "remove")
        if len(removes):
            self._check_fields(version, removes, ("path",))
            self.removed.append(unquoted(pc.struct_field(removes, "path")))

    def snapshot(self, version: int) -> TableSnapshot:
        features = self.header.features()
        if not features.schema:
            raise CorruptError(f"{self.root}: the table's log describes no columns")
        features.check_readable(self.root)
        try:
            columns = pa.schema(Schema.from_json(features.schema).to_arrow())
        except (ValueError, TypeError, DeltaError) as error:
            raise CorruptError(f"{self.root}: the log's columns cannot be read: {error}") from error
        empty = FILES_SCHEMA.append(_VERSION).empty_table()
        # Each small table frees its memory as soon as it is copied into the sorted one.
        files = _newest_of_each(pa.concat_tables([empty, *self.added]))
        return TableSnapshot(version, columns, self.transactions, files, features)

    def _check_fields(self, version: int, actions: pa.ChunkedArray, names: Sequence[str]) -> None:
        """Raise CorruptError for an action that lacks what each has: its file would be missed."""
        for name in names:
            if pc.struct_field(actions, name).null_count:
                raise CorruptError(
                    f"{self.root}/_delta_log: version {version} has an action without {name!r}"
                    f"{WAY_OUT}"
                )

    def _refuse_deletion_vectors(self, adds: pa.ChunkedArray) -> None:
        """Also for a file that a later version adds again: it has been read, so it is live."""
        if "deletionVector" in {each.name for each in adds.type}:
            vectors = pc.struct_field(adds, "deletionVector")
            if vectors.null_count < len(vectors):
                path = pc.struct_field(adds, "path").filter(pc.is_valid(vectors))[0].as_py()
                raise deletion_vector_error(self.root, path)


_VERSION = pa.field("version", pa.int64())


def _newest_of_each(files: pa.Table) -> pa.Table:
    """The files sorted by store and path; of repeated entries of a file the newest."""
    keys = [("store_id", "ascending"), ("path", "ascending"), ("version", "ascending")]
    files = files.sort_by(keys)
    if files.num_rows > 1:
        paths = files["path"].combine_chunks()
        last = pc.not_equal(paths[1:], paths[:-1])
        if not pc.all(last).as_py():
            keep = np.append(last.to_numpy(zero_copy_only=False), True)
            files = files.filter(pa.array(keep))
    return files.drop_columns(["version"])


def read_commit(storage: Storage, key: str) -> pa.Table:
    """The actions of a commit, one row each. Raises CorruptError."""
    return read_lines(storage.read(key), _ACTIONS, key)


def check_newest_commit(storage: Storage, root: str, version: int, *, to_write: bool) -> None:
    """Raise CorruptError for damage of the newest commits in which delta-rs sees none.

    That is an empty object, a commit after `version` that is no file, and, with `to_write`, one of
    which there is a checkpoint only: the table can be read, and no commit can follow.
    """
    _check_following(storage, f"{root}/_delta_log", version)
    key = f"{root}/_delta_log/{version:020d}.json"
    info = storage.stat(key)
    if info is not None and not info.size:
        raise CorruptError(f"{key}: the object is empty{WAY_OUT}")
    if info is None and to_write:
        raise CorruptError(
            f"{key}: this commit is missing, although there is a checkpoint of it: restore the"
            ' object, or put one there with the line {"commitInfo":{}}, as the checkpoint has all'
            " that it said"
        )


def _check_following(storage: Storage, folder: str, version: int) -> None:
    """Raise CorruptError if a folder or the like lies where the commit after `version` would be."""
    with suppress(NotFoundError):
        if is_local(storage):
            storage.read_range(f"{folder}/{version + 1:020d}.json", 0, 1)


def _checkpoint(storage: Storage, key: str) -> Iterator[pa.Table]:
    """The actions of a checkpoint's file, in the columns of _ACTIONS without `remove`."""
    try:
        with pq.ParquetFile(pa.BufferReader(storage.read(key))) as file:
            if "stats" not in {child.name for child in file.schema_arrow.field("add").type}:
                raise UnsupportedLogError(f"{key}: statistics only in columns of their own")
            fields = ("path", "partitionValues", "size", "modificationTime", "stats")
            names = (*fields, "deletionVector.storageType")
            columns = [*(f"add.{name}" for name in names), "metaData", "protocol", "txn"]
            columns.append("sidecar.path")
            for batch in file.iter_batches(_CHECKPOINT_ROWS, columns=columns, use_threads=False):
                actions = pa.table(batch)
                if "sidecar" in actions.column_names and len(actions["sidecar"].drop_null()):
                    # It names its files in objects of their own, whichever name it has itself.
                    raise UnsupportedLogError(f"{key}: a checkpoint of version 2")
                yield actions
    except (pa.ArrowException, KeyError, TypeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CorruptError(f"{key}: the checkpoint cannot be read: {reason}{WAY_OUT}") from error


def present(actions: pa.Table, name: str) -> pa.ChunkedArray:
    """The actions of one kind."""
    if name not in actions.column_names:
        return pa.chunked_array([], _ACTIONS.field(name).type)
    return actions[name].drop_null()


def _files(adds: pa.ChunkedArray, version: int) -> pa.Table:
    paths = pc.struct_field(adds, "path")
    partition = pc.struct_field(adds, "partitionValues")
    if pa.types.is_map(partition.type):
        stores = pc.map_lookup(partition, pa.scalar("store_id"), "first")
    else:
        stores = pc.struct_field(partition, "store_id")
    statistics = statistics_of(pc.struct_field(adds, "stats"))
    smallest, largest = statistics["minValues"], statistics["maxValues"]
    return pa.table(
        [
            paths,
            stores,
            pc.struct_field(adds, "size"),
            statistics["numRecords"],
            pc.struct_field(smallest, "date").cast(pa.date32()),
            pc.struct_field(largest, "date").cast(pa.date32()),
            pc.struct_field(smallest, "item_id"),
            pc.struct_field(largest, "item_id"),
            pc.struct_field(adds, "modificationTime"),
            pa.repeat(pa.scalar(version), len(adds)),
        ],
        schema=FILES_SCHEMA.append(_VERSION),
    )
