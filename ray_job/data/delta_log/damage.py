"""What is damaged or missing in a log that delta-rs cannot open, in a sentence."""

from __future__ import annotations

import json
from contextlib import suppress

from ray_job.bucket.errors import CorruptError, NotFoundError, StorageError
from ray_job.bucket.storage import Storage
from ray_job.data.delta_log import log_replay
from ray_job.data.delta_log.json_lines import CHECKPOINT, COMMIT, WAY_OUT


def has_commits(storage: Storage, root: str) -> bool:
    names = (info.key[-25:] for info in storage.list(f"{root}/_delta_log/"))
    return any(COMMIT.fullmatch(name) for name in names)


def raise_damage(storage: Storage, root: str, error: StorageError) -> None:
    """Raise CorruptError, which names the object and the way out, if the damage is one we know.

    `error` is that of delta-rs. Nothing is looked at if it speaks of something else.
    """
    if "kernel error" not in str(error).lower():
        return
    with suppress(StorageError, log_replay.UnsupportedLogError):
        _examine(storage, root, f"{root}/_delta_log")


def _examine(storage: Storage, root: str, folder: str) -> None:
    names = [info.key.removeprefix(f"{folder}/") for info in storage.list(f"{folder}/")]
    checkpoints = {int(match[1]) for name in names if (match := CHECKPOINT.fullmatch(name))}
    _check_hint(storage, f"{folder}/_last_checkpoint", checkpoints)
    begin = max(checkpoints, default=-1) + 1
    commits = {int(match[1]) for name in names if (match := COMMIT.fullmatch(name))}
    missing = set(range(begin, max(commits, default=begin))) - commits
    if missing:
        raise CorruptError(
            f"{folder}/{min(missing):020d}.json: this commit is missing, although there is a later"
            f" one{WAY_OUT}"
        )
    log_replay.read(storage, root)


def _check_hint(storage: Storage, key: str, checkpoints: set[int]) -> None:
    try:
        hint = json.loads(storage.read(key))
    except (NotFoundError, ValueError, RecursionError):
        return
    version = hint.get("version") if isinstance(hint, dict) else None
    if version is not None and version not in list(checkpoints):
        raise CorruptError(
            f"{key}: it names a checkpoint of version {version!r}, and there is none: delete this"
            " object, which is a hint only, or restore the checkpoint"
        )
