"""Publishing: a release is written unseen, then the pointer is moved by one compare-and-set.

The protocol is that of Apache Iceberg's and Delta's optimistic commits: read what is current, make
the next state from it, write on the condition that nobody wrote in between, else begin again.
Whoever loses the answer of the last write finds its own run in the pointer's history.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

import pyarrow as pa

from ray_job.bucket import keys, pointer, releases
from ray_job.bucket.parts import sha256
from ray_job.bucket.pointer import Pointer, Published
from ray_job.bucket.receipts import Gate
from ray_job.bucket.releases import Release, ReleaseHeader
from ray_job.bucket.storage import Storage
from ray_job.publishing import gates, merge
from ray_job.settings import Settings

State = Literal["published", "unchanged", "held", "refused", "unpublished"]


@dataclass(frozen=True, slots=True)
class Draft:
    """What a run brings to be published. `rows` are its stores' rows (RELEASE_SCHEMA)."""

    rows: pa.Table
    expected: Collection[str]
    known: Collection[str]
    """The expected stores and those that are closed for good."""
    as_of: date
    run_id: str
    created_at: datetime
    table_version: int
    model_version: str
    horizon: int
    force: bool = False
    hindsight: bool = False


@dataclass(frozen=True, slots=True)
class Publication:
    """What became of a draft. `release` is the one that stands for the as-of now, if any does.

    `rows` are those of the merged release, published or not.
    """

    state: State
    release: str | None
    rows: pa.Table
    gates: tuple[Gate, ...]
    message: str = ""


def publish(
    storage: Storage,
    draft: Draft,
    settings: Settings,
    accuracy: Mapping[date, str] | None = None,
    on_written: Callable[[str], None] = lambda _: None,
) -> Publication:
    """Publish a draft, or say why not. Safe to call again after any failure.

    `accuracy` has the newly written scores by target date; they become visible in the same move.
    """
    result: Publication | None = None
    attempt = 0

    def next_state(current: Pointer) -> Pointer | None:
        nonlocal result, attempt
        if (ours := _own(current, draft)) is not None:
            result = _merged(storage, current, draft, settings, "published", ours.release)
            return None
        if _held(current, draft):
            message = (
                f"publishing is held through {current.hold_through:%A %-d %B %Y}, after a rollback"
            )
            result = _merged(storage, current, draft, settings, "held", None, message)
            return None
        base_name = merge.base_of(current, draft.as_of)
        base = _load(storage, current, base_name)
        rows = merge.merge(
            None if base is None else base.stores,
            draft.rows,
            as_of=draft.as_of,
            expected=draft.expected,
            version=draft.table_version,
        )
        if base is not None and base.header.as_of == draft.as_of and _same(base.stores, rows):
            result = Publication("unchanged", base_name, rows, ())
            stands = _lifted(current, draft) if base_name == current.current else current
            return _with_accuracy(stands, accuracy, settings)
        if not _is_kept(current, draft.as_of, settings):
            message = (
                f"{draft.as_of:%A %-d %B %Y} is older than the {settings.publish.keep_days} nights"
                " that are kept (publish.keep_days)"
            )
            result = Publication("refused", None, rows, (), message)
            return None
        judged = _judge(rows, base, draft, settings)
        if not draft.force and not all(gate.passed for gate in judged):
            failed = "; ".join(
                f"{gate.message} (limit {gate.limit:g})" for gate in judged if not gate.passed
            )
            result = Publication("refused", None, rows, judged, failed)
            return None
        name = f"{draft.run_id}-{attempt}"
        attempt += 1
        data = releases.encode(Release(_header(draft, name, base_name), rows))
        storage.create(keys.release(name), data)
        on_written(name)
        entry = Published(
            release=name,
            sha256=sha256(data),
            as_of=draft.as_of,
            run_id=draft.run_id,
            published_at=draft.created_at,
        )
        result = Publication("published", name, rows, judged)
        after = entered(current, entry, settings)
        if after.current == name:
            after = _lifted(after, draft)
        return _with_accuracy(after, accuracy, settings)

    pointer.move(storage, next_state)
    if result is None:
        raise AssertionError("the pointer was left without a decision")
    return result


def preview(storage: Storage, draft: Draft, settings: Settings) -> Publication:
    """What publishing would merge and how the gates would judge it. Writes nothing."""
    current, _ = pointer.read(storage)
    return _merged(storage, current, draft, settings, "unpublished", None)


def entered(current: Pointer, entry: Published, settings: Settings) -> Pointer:
    """The pointer with one more publication. An older as-of never becomes current."""
    dates = {**current.dates, entry.as_of: entry.release}
    for day in sorted(dates)[: -settings.publish.keep_days]:
        del dates[day]
    newest = current.current_entry
    becomes_current = newest is None or newest.as_of <= entry.as_of
    name = entry.release if becomes_current else current.current
    history = (entry, *current.history)
    reachable = {*dates.values(), name}
    kept = tuple(
        one
        for index, one in enumerate(history)
        if index < settings.publish.history_entries or one.release in reachable
    )
    named = {one.release for one in kept}
    return current.model_copy(
        update={
            "current": name,
            "history": kept,
            "dates": dict(sorted(dates.items())),
            "bad": tuple(release for release in current.bad if release in named),
            "time_zone": settings.time_zone,
            "deadline": settings.deadline,
            "silent_days": settings.sanity.silent_days,
        }
    )


def _with_accuracy(
    current: Pointer, accuracy: Mapping[date, str] | None, settings: Settings
) -> Pointer:
    if not accuracy:
        return current
    scored = {**current.accuracy, **accuracy}
    for day in sorted(scored)[: -settings.publish.accuracy_days]:
        del scored[day]
    return current.model_copy(update={"accuracy": dict(sorted(scored.items()))})


def _own(current: Pointer, draft: Draft) -> Published | None:
    """Our own publication, whose acknowledgement was lost."""
    return next((entry for entry in current.history if entry.run_id == draft.run_id), None)


def _lifted(current: Pointer, draft: Draft) -> Pointer:
    """Without the hold, where somebody insists on what is current."""
    return current.model_copy(update={"hold_through": None}) if draft.force else current


def _is_kept(current: Pointer, as_of: date, settings: Settings) -> bool:
    """Whether `dates` will name a publication for this as-of; else no reader could find it."""
    newer = [day for day in current.dates if day > as_of]
    return len(newer) < settings.publish.keep_days


def _held(current: Pointer, draft: Draft) -> bool:
    through = current.hold_through
    return through is not None and draft.as_of <= through and not draft.force


def _merged(
    storage: Storage,
    current: Pointer,
    draft: Draft,
    settings: Settings,
    state: State,
    release: str | None,
    message: str = "",
) -> Publication:
    base = _load(storage, current, release or merge.base_of(current, draft.as_of))
    rows = merge.merge(
        None if base is None else base.stores,
        draft.rows,
        as_of=draft.as_of,
        expected=draft.expected,
        version=draft.table_version,
    )
    return Publication(state, release, rows, _judge(rows, base, draft, settings), message)


def _load(storage: Storage, current: Pointer, name: str | None) -> Release | None:
    entry = None if name is None else current.entry(name)
    return None if entry is None else releases.load(storage, entry.release, entry.sha256)


def _judge(
    rows: pa.Table, base: Release | None, draft: Draft, settings: Settings
) -> tuple[Gate, ...]:
    before = None if base is None else base.stores
    return tuple(
        gates.judge(rows, before, as_of=draft.as_of, known=draft.known, limits=settings.gates)
    )


def _same(before: pa.Table, after: pa.Table) -> bool:
    """Whether two releases say the same, whoever computed it and when."""
    by_whom = ["generated_at", "run_id", "table_version", "attempt"]
    return bool(before.drop_columns(by_whom).equals(after.drop_columns(by_whom)))


def _header(draft: Draft, name: str, base: str | None) -> ReleaseHeader:
    return ReleaseHeader(
        release=name,
        as_of=draft.as_of,
        run_id=draft.run_id,
        created_at=draft.created_at,
        table_version=draft.table_version,
        model_version=draft.model_version,
        horizon=draft.horizon,
        base=base,
        forced=draft.force,
        hindsight=draft.hindsight,
    )
