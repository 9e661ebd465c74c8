"""The files below a table's root: which of them this program wrote, and which are foreign.

Only a file that this program wrote may ever be deleted. It is known by its name, by the log of the
table, or, under the names of version 0.1, by its footer. Whatever else lies there belongs to
somebody else: it is told, and left alone. See decision 0091.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from urllib.parse import unquote
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ray_job.bucket import keys
from ray_job.bucket.errors import ConflictError, CorruptError, NotFoundError, StorecastError
from ray_job.bucket.storage import ObjectInfo, Storage
from ray_job.data import delta, manifest
from ray_job.data.delta_log import log_replay
from ray_job.data.delta_log.json_lines import CHECKPOINT, COMMIT
from ray_job.data.partition import FOOTER_KEY
from ray_job.data.requests import map_in_order

_OWN_NAME = re.compile(r"storecast-[0-9a-f]{32}(-\d+)?\.parquet")
_OLD_NAME = re.compile(r"[0-9a-f]{32}(-\d+)?\.parquet")
_PLACE = re.compile(rf"{keys.BATCH_DATA}/store_id={keys.STORE_ID_PATTERN}/[^/]+|context/\w+/[^/]+")
"""Where this program writes the files of tables. One with our name elsewhere is somebody's copy."""
_HIDDEN = (".", "_")
_EXAMPLES = 3
_SAMPLE = 16
"""So many files with a name of version 0.1 are read before all are believed to be foreign."""
MOST_LISTED = 20_000
"""A run lists the files below a table of at most so many files. Clean-up lists every table."""


def new_file_name() -> str:
    """A name for new files of a table, without its ending, by which they are known as ours."""
    return f"storecast-{uuid4().hex}"


def own_names(paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """Flags of the files that have a name which this program, or version 0.1 of it, gives."""
    return pc.match_substring_regex(paths, r"/(storecast-)?[0-9a-f]{32}(-[0-9]+)?\.parquet$")


@dataclass(frozen=True, slots=True)
class ForeignFiles:
    """Files below a table that neither this program wrote nor the table's log names."""

    count: int = 0
    bytes: int = 0
    examples: tuple[str, ...] = ()
    """The keys of the first ones."""

    @classmethod
    def of(cls, files: Sequence[ObjectInfo]) -> ForeignFiles:
        return cls(
            len(files),
            sum(info.size for info in files),
            tuple(info.key for info in files[:_EXAMPLES]),
        )

    def sentence(self) -> str:
        """What a run says of them; empty if there are none."""
        if not self.count:
            return ""
        more = ", …" if self.count > len(self.examples) else ""
        return (
            f"{self.count:,} files in {keys.BATCH_DATA}/ are in no ingest and in no log"
            f" ({', '.join(self.examples)}{more}): they are not part of the histories;"
            " `storecast ingest --from-batch-data` brings in those whose names end in .csv, .csv.gz"
            " or .parquet"
        )


NO_FOREIGN_FILES = ForeignFiles()


@dataclass(frozen=True, slots=True)
class Vacuum:
    """`deleted` files of a table, and the foreign files below its root, which were left alone.

    Copies of our files that somebody made in folders of their own are among the latter.
    """

    deleted: tuple[ObjectInfo, ...]
    foreign: tuple[ObjectInfo, ...]


def vacuum(storage: Storage, root: str, now: datetime, older_than: timedelta) -> Vacuum:
    """Delete files of this program that no snapshot younger than `older_than` names.

    Idempotent, and safe beside ingests and runs. A file that another program wrote is deleted only
    if the log has named it and then removed it. Raises CorruptError if the log cannot be read.
    """
    # Listing first, then the log: what is committed in between is not old yet.
    listed = list(_listed(storage, root))
    if not listed:
        return Vacuum((), ())
    referenced = _referenced(storage, root)
    oldest = now - older_than
    kept = referenced | _keys(root, _removed_paths(storage, root, oldest))
    own, foreign = _told_apart(storage, root, [info for info in listed if info.key not in kept])
    foreign += [info for info in own if _is_copy(info)]
    old = [info for info in own if info.created < oldest and not _is_copy(info)]
    deleted = [
        info
        for info, is_deleted in map_in_order(storage, lambda i: _delete(storage, i), old)
        if is_deleted
    ]
    return Vacuum(tuple(deleted), tuple(foreign))


def foreign_files(storage: Storage, root: str, referenced: Collection[str]) -> list[ObjectInfo]:
    """The foreign files below a table's root; `referenced` are the keys of its snapshot."""
    unknown = [info for info in _listed(storage, root) if info.key not in referenced]
    return _told_apart(storage, root, unknown, sample=_SAMPLE)[1]


def not_ingested(storage: Storage, referenced: Collection[str], transaction: int) -> ForeignFiles:
    """The foreign files below the histories that no `ingest --from-batch-data` has brought in.

    `referenced` are the keys of the snapshot's files, `transaction` is its last ingest.
    """
    foreign = foreign_files(storage, keys.BATCH_DATA, referenced)
    if foreign and transaction:
        known = manifest.read_past(storage, transaction).files
        foreign = [info for info in foreign if keys.raw("sales", info.key) not in known]
    return ForeignFiles.of(foreign)


def _listed(storage: Storage, root: str) -> Iterator[ObjectInfo]:
    """The objects below the root, without those of hidden files and folders, such as the log."""
    for info in storage.list(f"{root}/"):
        names = info.key.removeprefix(f"{root}/").split("/")
        if not info.key.endswith("/") and not any(name.startswith(_HIDDEN) for name in names):
            yield info


def _referenced(storage: Storage, root: str) -> set[str]:
    snapshot = delta.open_snapshot(storage, root)
    paths = [] if snapshot is None else snapshot.files["path"].to_pylist()
    return {f"{root}/{path}" for path in paths}


def _keys(root: str, paths: Collection[str]) -> set[str]:
    """The keys of paths as they are in the log."""
    return {f"{root}/{unquote(path)}" for path in paths}


def _told_apart(
    storage: Storage, root: str, unknown: Sequence[ObjectInfo], sample: int | None = None
) -> tuple[list[ObjectInfo], list[ObjectInfo]]:
    """Which of these files are ours, and which are foreign.

    With `sample` only so many files with a name of version 0.1 are read; if one of them is foreign,
    all of them are.
    """
    own = [info for info in unknown if _OWN_NAME.fullmatch(_name(info))]
    others = [info for info in unknown if not _OWN_NAME.fullmatch(_name(info))]
    if not others:
        return own, []
    logged = _keys(root, _logged_paths(storage, root))
    own += [info for info in others if info.key in logged]
    others = [info for info in others if info.key not in logged]
    old_names = [info for info in others if _OLD_NAME.fullmatch(_name(info))]
    judged = map_in_order(storage, lambda info: _has_our_footer(storage, info), old_names[:sample])
    proven = {info.key for info, is_ours in zip(old_names, judged, strict=False) if is_ours}
    if sample is not None and len(proven) == min(sample, len(old_names)):
        proven = {info.key for info in old_names}
    own += [info for info in others if info.key in proven]
    return own, [info for info in others if info.key not in proven]


def _is_copy(info: ObjectInfo) -> bool:
    is_named = _OWN_NAME.fullmatch(_name(info)) or _OLD_NAME.fullmatch(_name(info))
    return bool(is_named) and not _PLACE.fullmatch(info.key)


def _removed_paths(storage: Storage, root: str, since: datetime) -> set[str]:
    """The paths that commits from `since` on removed, as they are in the log."""
    removed: set[str] = set()
    for info in storage.list(f"{root}/_delta_log/"):
        if COMMIT.fullmatch(_name(info)) and info.created >= since:
            removes = log_replay.present(log_replay.read_commit(storage, info.key), "remove")
            removed.update(pc.struct_field(removes, "path").to_pylist())
    return removed


def _logged_paths(storage: Storage, root: str) -> set[str]:
    """The paths of all files that the log has ever named, as far as it still exists."""
    paths: set[str] = set()
    for info in storage.list(f"{root}/_delta_log/"):
        if COMMIT.fullmatch(_name(info)):
            actions = log_replay.read_commit(storage, info.key)
        elif CHECKPOINT.fullmatch(_name(info)):
            actions = _named_in_checkpoint(storage, info.key)
        else:
            continue
        for kind in ("add", "remove"):
            paths.update(pc.struct_field(log_replay.present(actions, kind), "path").to_pylist())
    return paths


def _named_in_checkpoint(storage: Storage, key: str) -> pa.Table:
    try:
        with pq.ParquetFile(pa.BufferReader(storage.read(key))) as file:
            return file.read([f"{kind}.path" for kind in ("add", "remove")], use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise CorruptError(f"{key}: {str(error).splitlines()[0]}") from error


def _name(info: ObjectInfo) -> str:
    return PurePosixPath(info.key).name


def _has_our_footer(storage: Storage, info: ObjectInfo) -> bool:
    """Whether version 0.1 wrote the file: its histories have a footer of their own kind."""
    try:
        footer = pq.read_metadata(pa.BufferReader(storage.read(info.key)))
    except (pa.ArrowException, OSError, StorecastError):
        return False
    return FOOTER_KEY in (footer.metadata or {})


def _delete(storage: Storage, info: ObjectInfo) -> tuple[ObjectInfo, bool]:
    try:
        storage.delete(info.key, info.generation)
    except (ConflictError, NotFoundError):
        return info, False
    return info, True
