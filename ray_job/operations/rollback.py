"""Rollback: readers see an earlier release again, and no scheduled run undoes that.

A rollback moves the pointer, as a publication does. Releases that were published after the target,
for its as-of or a later one, are marked bad: no later release is based on them, and they are the
release of no as-of any more. Publishing is held through the newest as-of among them, until
`--force` or the next night.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from ray_job.bucket import pointer, releases
from ray_job.bucket.errors import CorruptError, InputError, NotFoundError
from ray_job.bucket.lost_pointer import refuse_lost_pointer
from ray_job.bucket.pointer import Pointer, Published
from ray_job.bucket.storage import Storage


@dataclass(frozen=True, slots=True)
class Rollback:
    """`release` is current now; `abandoned` were given up for it, newest first.

    `abandoned_model_version` is that of the newest of them. `repeated`: an earlier rollback had
    done all of this already.
    """

    release: str
    as_of: date
    abandoned: tuple[str, ...]
    hold_through: date | None
    model_version: str
    abandoned_model_version: str | None
    repeated: bool = False

    @property
    def changes_model(self) -> bool:
        """Whether another model made the newest abandoned release.

        If that is the current model, the next night uses it again. False if the abandoned release
        cannot be read.
        """
        return self.abandoned_model_version not in (None, self.model_version)


def rollback(storage: Storage, release: str | None = None) -> Rollback:
    """Make `release` current; None is the one before the newest publication.

    Idempotent: without a name it gives up what was published last, and does nothing if a rollback
    has done so already. Only a named release leads further back. The release is decided once:
    neither another writer nor a lost acknowledgement makes the call go further back. Raises
    InputError if there is no such release or if it is marked bad. Raises CorruptError, and changes
    nothing, if its object is damaged.
    """
    report: Rollback | None = None

    def change(current: Pointer) -> Pointer | None:
        nonlocal report
        refuse_lost_pointer(storage, current)
        # If all are bad already, the move was made and only its acknowledgement was lost.
        if report is not None and report.abandoned and set(report.abandoned) <= set(current.bad):
            return None
        is_repeated = release is None and report is None and is_rolled_back(current)
        wanted = release if report is None else report.release
        target = _target(current, current.current if is_repeated else wanted)
        given_up = abandoned(current, target)
        after = rolled_back(current, target, given_up)
        report = Rollback(
            release=target.release,
            as_of=target.as_of,
            abandoned=tuple(entry.release for entry in given_up),
            hold_through=after.hold_through,
            model_version=_model(storage, target),
            abandoned_model_version=(
                _model_if_readable(storage, given_up[0]) if given_up else None
            ),
            repeated=is_repeated,
        )
        return after

    pointer.move(storage, change)
    if report is None:
        raise AssertionError("pointer.move did not call for a decision")
    return report


def is_rolled_back(current: Pointer) -> bool:
    """Whether a rollback made the current release current, and nothing replaced it since."""
    entry = current.current_entry
    if entry is None:
        return False
    newer = current.history[: current.history.index(entry)]
    return any(each.as_of >= entry.as_of and each.release in current.bad for each in newer)


def abandoned(current: Pointer, target: Published) -> list[Published]:
    """The good publications that a rollback to `target` gives up, newest first.

    They were published after it, for its as-of or a later one. Releases of earlier as-ofs stay.
    """
    newer = current.history[: current.history.index(target)]
    return [
        entry for entry in newer if entry.as_of >= target.as_of and entry.release not in current.bad
    ]


def rolled_back(current: Pointer, target: Published, given_up: list[Published]) -> Pointer:
    """The pointer after the rollback. Pure."""
    bad = {*current.bad, *(entry.release for entry in given_up)}
    dates: dict[date, str] = {}
    for entry in reversed(current.history):
        # An as-of that the pointer has dropped gets no old release again.
        if entry.release not in bad and entry.as_of in current.dates:
            dates[entry.as_of] = entry.release
    held_dates = [entry.as_of for entry in given_up]
    if current.hold_through is not None:
        held_dates.append(current.hold_through)
    return current.model_copy(
        update={
            "current": target.release,
            "bad": tuple(entry.release for entry in current.history if entry.release in bad),
            "dates": dict(sorted(dates.items())),
            "hold_through": max(held_dates, default=None),
        }
    )


def _target(current: Pointer, release: str | None) -> Published:
    if release is None:
        return _before(current)
    entry = current.entry(release)
    if entry is None:
        raise InputError(f"{release}: no such release is known; `storecast releases` lists them")
    if release in current.bad:
        raise InputError(f"{release}: a rollback marked this release as bad")
    return entry


def _before(current: Pointer) -> Published:
    """The release that would be current if the current one had never been published."""
    entry = current.current_entry
    if entry is None:
        raise InputError("nothing was published yet, so there is nothing to go back to")
    older = current.history[current.history.index(entry) + 1 :]
    good = [
        candidate
        for candidate in older
        if candidate.release not in current.bad and candidate.as_of <= entry.as_of
    ]
    if not good:
        raise InputError(f"{entry.release}: there is no good release before the current one")
    return max(good, key=lambda candidate: (candidate.as_of, -older.index(candidate)))


def _model_if_readable(storage: Storage, entry: Published) -> str | None:
    """None if the release is damaged, which may be why it is abandoned."""
    try:
        return _model(storage, entry)
    except (CorruptError, NotFoundError):
        return None


def _model(storage: Storage, entry: Published) -> str:
    return releases.load(storage, entry.release, entry.sha256).header.model_version
