"""Rollback: readers see an earlier release again, and no scheduled run undoes that.

A rollback is a move of the pointer like a publication. What was published after the release that
readers go back to, for its as-of or a later one, is marked bad: it is no base of later releases and
stands for no as-of any more. Publishing is held through the newest as-of among them, until
`--force` or the next night.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from ray_job.bucket import pointer, releases
from ray_job.bucket.errors import CorruptError, InputError, NotFoundError
from ray_job.bucket.pointer import Pointer, Published
from ray_job.bucket.storage import Storage


@dataclass(frozen=True, slots=True)
class Rollback:
    """What is current now, what was abandoned for it, and the models of both."""

    release: str
    as_of: date
    abandoned: tuple[str, ...]
    hold_through: date | None
    model_version: str
    abandoned_model_version: str | None

    @property
    def changes_model(self) -> bool:
        """Whether the next night's forecasts would be made by the abandoned release's model.

        Unknown, and so False, where that release cannot be read.
        """
        return self.abandoned_model_version not in (None, self.model_version)


def rollback(storage: Storage, release: str | None = None) -> Rollback:
    """Make `release`, by default the one before the current, current. Idempotent for the same one.

    Where others are faster it still goes to the release that it decided for, and no further where
    its own move landed and only the answer was lost. Raises InputError where there is no such
    release, or where it is marked bad; CorruptError where its object is damaged, and then changes
    nothing.
    """
    told: Rollback | None = None

    def change(current: Pointer) -> Pointer | None:
        nonlocal told
        if told is not None and told.abandoned and set(told.abandoned) <= set(current.bad):
            return None
        target = _target(current, release if told is None else told.release)
        left = abandoned(current, target)
        after = rolled_back(current, target, left)
        told = Rollback(
            release=target.release,
            as_of=target.as_of,
            abandoned=tuple(one.release for one in left),
            hold_through=after.hold_through,
            model_version=_model(storage, target),
            abandoned_model_version=_model_if_readable(storage, left[0]) if left else None,
        )
        return after

    pointer.move(storage, change)
    if told is None:
        raise AssertionError("the pointer was left without a decision")
    return told


def abandoned(current: Pointer, target: Published) -> list[Published]:
    """The good publications that a rollback to `target` gives up, newest first.

    Those after it for its as-of or a later one; releases for earlier as-ofs stand for themselves.
    """
    newer = current.history[: current.history.index(target)]
    return [one for one in newer if one.as_of >= target.as_of and one.release not in current.bad]


def rolled_back(current: Pointer, target: Published, left: list[Published]) -> Pointer:
    """The pointer after the rollback."""
    bad = {*current.bad, *(one.release for one in left)}
    dates: dict[date, str] = {}
    for one in reversed(current.history):
        # What was replaced long ago is not brought back for an as-of that is not kept any more.
        if one.release not in bad and one.as_of in current.dates:
            dates[one.as_of] = one.release
    through = [one.as_of for one in left]
    if current.hold_through is not None:
        through.append(current.hold_through)
    return current.model_copy(
        update={
            "current": target.release,
            "bad": tuple(one.release for one in current.history if one.release in bad),
            "dates": dict(sorted(dates.items())),
            "hold_through": max(through, default=None),
        }
    )


def _target(current: Pointer, release: str | None) -> Published:
    if release is None:
        return _before(current)
    entry = current.entry(release)
    if entry is None:
        raise InputError(f"{release}: the pointer remembers no such release; `storecast releases`")
    if release in current.bad:
        raise InputError(f"{release}: a rollback marked this release as bad")
    return entry


def _before(current: Pointer) -> Published:
    """The release that would be current if the current one had never been published."""
    now = current.current_entry
    if now is None:
        raise InputError("nothing was published yet, so there is nothing to go back to")
    older = current.history[current.history.index(now) + 1 :]
    good = [one for one in older if one.release not in current.bad and one.as_of <= now.as_of]
    if not good:
        raise InputError(f"{now.release}: there is no good release before the current one")
    return max(good, key=lambda one: (one.as_of, -older.index(one)))


def _model_if_readable(storage: Storage, entry: Published) -> str | None:
    """That a release is damaged may be why it is abandoned."""
    try:
        return _model(storage, entry)
    except (CorruptError, NotFoundError):
        return None


def _model(storage: Storage, entry: Published) -> str:
    return releases.load(storage, entry.release, entry.sha256).header.model_version
