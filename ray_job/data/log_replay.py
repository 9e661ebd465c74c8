"""The files of a table's snapshot, replayed from its log as Arrow arrays.

delta-rs holds 0.7 kB for each file, and listing them takes half of that again: a gigabyte and a
half for 100,000 stores of 16 files. Here a file takes its path and six small values. The protocol
is Delta's (PROTOCOL.md, "Action Reconciliation"): the newest action on a path decides, an `add`
puts the file in, a `remove` takes it out. What a table of ours never uses (reader features,
checkpoints of the second version, parsed statistics) is refused, and delta-rs asked instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq
from deltalake import Schema

from ray_job.bucket.errors import CorruptError
from ray_job.bucket.storage import Storage

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
    ]
)
"""A row for each file; `path` is relative to the table's root: `store_id=7/….parquet`."""

_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10}))?\.parquet")
_READER_VERSION = 1
_BLOCK_BYTES = 16 * 2**20
"""A line of the log is at most so long."""
_CHECKPOINT_ROWS = 100_000

_EXTENT = pa.struct([("item_id", pa.string()), ("date", pa.string())])
_STATISTICS = pa.schema(
    [("numRecords", pa.int64()), ("minValues", _EXTENT), ("maxValues", _EXTENT)]
)
_ACTIONS = pa.schema(
    [
        (
            "add",
            pa.struct(
                [
                    ("path", pa.string()),
                    ("partitionValues", pa.struct([("store_id", pa.string())])),
                    ("size", pa.int64()),
                    ("stats", pa.string()),
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
    """The log uses what is not replayed here; delta-rs may know it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A table at one version. `files` is of FILES_SCHEMA, sorted by store and path."""

    version: int
    columns: pa.Schema
    transactions: dict[str, int]
    """The newest version of each application transaction."""
    files: pa.Table


def read(storage: Storage, root: str) -> Snapshot | None:
    """The newest snapshot of the table under `root`, None where there is no table.

    Raises UnsupportedLogError, and CorruptError for a log that cannot be read.
    """
    log = _Log.of(storage, root)
    if log is None:
        return None
    replay = _Replay()
    for version in reversed(log.commits):
        replay.take(version, _commit(storage, f"{log.folder}/{version:020d}.json"))
    if log.checkpoint is not None:
        for key in log.parts:
            for actions in _checkpoint(storage, key):
                replay.take(log.checkpoint, actions)
    return replay.snapshot(log.newest, root)


@dataclass(frozen=True, slots=True)
class _Log:
    """What is to be replayed: the newest checkpoint, if there is one, and the commits after it."""

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
            if found := _COMMIT.fullmatch(name):
                commits.append(int(found[1]))
            elif found := _CHECKPOINT.fullmatch(name):
                of = int(found[3] or 1)
                checkpoints.setdefault((int(found[1]), of), []).append(info.key)
            elif ".checkpoint." in name:
                raise UnsupportedLogError(f"{info.key}: a checkpoint of another kind")
        whole = [one for one, parts in checkpoints.items() if len(parts) == one[1]]
        if not commits and not whole:
            return None
        last = max(whole, default=None)
        begin = 0 if last is None else last[0] + 1
        after = sorted(version for version in commits if version >= begin)
        if after != list(range(begin, begin + len(after))):
            raise UnsupportedLogError(f"{folder}: a commit from {begin} on is missing")
        if last is None:
            return cls(folder, after, None, ())
        return cls(folder, after, last[0], sorted(checkpoints[last]))


@dataclass(slots=True)
class _Replay:
    """Takes the actions of one version after the other, the newest first."""

    added: list[pa.Table] = field(default_factory=list)
    gone: list[pa.ChunkedArray] = field(default_factory=list)
    """Paths that the versions taken so far remove."""
    schema: str | None = None
    transactions: dict[str, int] = field(default_factory=dict)

    def take(self, version: int, actions: pa.Table) -> None:
        for protocol in _present(actions, "protocol").to_pylist():
            if protocol["minReaderVersion"] > _READER_VERSION:
                raise UnsupportedLogError(f"reader version {protocol['minReaderVersion']}")
        for described in _present(actions, "metaData").to_pylist():
            self.schema = self.schema or described["schemaString"]
        for one in _present(actions, "txn").to_pylist():
            self.transactions.setdefault(one["appId"], one["version"])
        adds = _present(actions, "add")
        if len(adds) and self.gone:
            gone = pa.chunked_array([chunk for paths in self.gone for chunk in paths.chunks])
            removed = pc.is_in(pc.struct_field(adds, "path"), gone)
            adds = adds.filter(pc.invert(removed))
        if len(adds):
            self.added.append(_files(adds, version))
        removes = _present(actions, "remove")
        if len(removes):
            self.gone.append(pc.struct_field(removes, "path"))

    def snapshot(self, version: int, root: str) -> Snapshot:
        if self.schema is None:
            raise CorruptError(f"{root}: the table's log describes no columns")
        columns = pa.schema(Schema.from_json(self.schema).to_arrow())
        empty = FILES_SCHEMA.append(_VERSION).empty_table()
        # Small pieces give their memory back as they are copied into the sorted whole.
        files = _newest_of_each(pa.concat_tables([empty, *self.added]))
        return Snapshot(version, columns, self.transactions, files)


_VERSION = pa.field("version", pa.int64())


def _newest_of_each(files: pa.Table) -> pa.Table:
    """Sorted by store and path; of a file that was added more than once the newest."""
    keys = [("store_id", "ascending"), ("path", "ascending"), ("version", "ascending")]
    files = files.sort_by(keys)
    if files.num_rows > 1:
        paths = files["path"].combine_chunks()
        last = pc.not_equal(paths[1:], paths[:-1])
        if not pc.all(last).as_py():
            keep = np.append(last.to_numpy(zero_copy_only=False), True)
            files = files.filter(pa.array(keep))
    return files.drop_columns(["version"])


def _commit(storage: Storage, key: str) -> pa.Table:
    return _json(pa.BufferReader(storage.read(key)), _ACTIONS, key)


def _checkpoint(storage: Storage, key: str) -> Iterator[pa.Table]:
    """The actions of a checkpoint's file, in the columns of _ACTIONS; removes don't matter."""
    try:
        with pq.ParquetFile(pa.BufferReader(storage.read(key))) as file:
            if "stats" not in {one.name for one in file.schema_arrow.field("add").type}:
                raise UnsupportedLogError(f"{key}: statistics only in columns of their own")
            columns = [
                *(f"add.{name}" for name in ("path", "partitionValues", "size", "stats")),
                "metaData.schemaString",
                "protocol.minReaderVersion",
                "txn",
            ]
            for batch in file.iter_batches(_CHECKPOINT_ROWS, columns=columns, use_threads=False):
                yield pa.table(batch)
    except (pa.ArrowException, KeyError, OSError) as error:
        raise CorruptError(f"{key}: {str(error).splitlines()[0]}") from error


def _json(source: pa.BufferReader, schema: pa.Schema, key: str) -> pa.Table:
    try:
        return pyarrow.json.read_json(
            source,
            read_options=pyarrow.json.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="ignore"
            ),
        )
    except pa.ArrowException as error:
        raise CorruptError(f"{key}: {str(error).splitlines()[0]}") from error


def _present(actions: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in actions.column_names:
        return pa.chunked_array([], _ACTIONS.field(name).type)
    return actions[name].drop_null()


def _files(adds: pa.ChunkedArray, version: int) -> pa.Table:
    paths = pc.struct_field(adds, "path")
    if pc.any(pc.match_substring(paths, "%")).as_py():
        raise UnsupportedLogError("a path with escaped characters")
    partition = pc.struct_field(adds, "partitionValues")
    if pa.types.is_map(partition.type):
        stores = pc.map_lookup(partition, pa.scalar("store_id"), "first")
    else:
        stores = pc.struct_field(partition, "store_id")
    told = pc.fill_null(pc.struct_field(adds, "stats"), "{}").combine_chunks()
    lines = pa.LargeListArray.from_arrays(pa.array([0, len(told)]), told.cast(pa.large_string()))
    text = pc.binary_join(lines, pa.scalar("\n", pa.large_string()))[0].as_buffer()
    statistics = _json(pa.BufferReader(text), _STATISTICS, f"statistics of version {version}")
    least, most = statistics["minValues"], statistics["maxValues"]
    return pa.table(
        [
            paths,
            stores,
            pc.struct_field(adds, "size"),
            statistics["numRecords"],
            pc.struct_field(least, "date").cast(pa.date32()),
            pc.struct_field(most, "date").cast(pa.date32()),
            pc.struct_field(least, "item_id"),
            pc.struct_field(most, "item_id"),
            pa.repeat(pa.scalar(version), len(adds)),
        ],
        schema=FILES_SCHEMA.append(_VERSION),
    )
