"""The decision about a draft: publish it, or why not. Pure: no storage, no clock.

`decide` compares a draft with the pointer and with the base release. `next_pointer` makes the state
of the pointer that carries the decision out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

import pyarrow as pa

from ray_job.bucket.pointer import Pointer, Published
from ray_job.bucket.receipts import Gate
from ray_job.bucket.releases import Release
from ray_job.publishing import gates, merge
from ray_job.settings import Settings

State = Literal["published", "unchanged", "held", "refused", "unpublished"]


@dataclass(frozen=True, slots=True)
class Draft:
    """What a run brings to be published. `rows` are the rows of its stores (RELEASE_SCHEMA).

    `known` are the expected stores and those that are closed for good. `undelivered` are days on
    which sales of 0 were filled in ahead.
    """

    rows: pa.Table
    expected: Collection[str]
    known: Collection[str]
    as_of: date
    run_id: str
    created_at: datetime
    table_version: int
    model_version: str
    horizon: int
    force: bool = False
    hindsight: bool = False
    undelivered: Collection[date] = ()


@dataclass(frozen=True, slots=True)
class Publication:
    """What became of a draft.

    `release` is the release that stands for the as-of now, None if there is none or if the draft
    was not published. `rows` are those of the merged release, published or not. `message` gives the
    reason where the draft was not published.
    """

    state: State
    release: str | None
    rows: pa.Table
    gates: tuple[Gate, ...]
    message: str = ""


def own_publication(pointer: Pointer, draft: Draft) -> Published | None:
    """The publication of this very run, whose acknowledgement was lost; None if there is none."""
    return next((entry for entry in pointer.history if entry.run_id == draft.run_id), None)


def base_name(pointer: Pointer, draft: Draft) -> str | None:
    """The release that the draft is merged with: its own if it was published already."""
    own = own_publication(pointer, draft)
    return own.release if own is not None else merge.base_of(pointer, draft.as_of)


def decide(pointer: Pointer, base: Release | None, draft: Draft, settings: Settings) -> Publication:
    """What is to become of a draft; `base` is the release that `base_name` names.

    State "published" with a release: the run's own publication is there already. State "published"
    without a release: a new release of `rows` is to be written. "unchanged": the base says the same
    as the draft. "held" and "refused": nothing is to be written.
    """
    rows = merged_rows(base, draft)
    own = own_publication(pointer, draft)
    if own is not None:
        return Publication("published", own.release, rows, judge(rows, base, draft, settings))
    if _is_held(pointer, draft):
        message = (
            f"publishing is held through {pointer.hold_through:%A %-d %B %Y}, after a rollback"
        )
        return Publication("held", None, rows, judge(rows, base, draft, settings), message)
    if base is not None and base.header.as_of == draft.as_of and _is_same(base.stores, rows):
        return Publication("unchanged", base.header.release, rows, ())
    if not _is_kept(pointer, draft.as_of, settings):
        message = (
            f"{draft.as_of:%A %-d %B %Y} is older than the {settings.publish.keep_days} nights"
            " that are kept (publish.keep_days)"
        )
        return Publication("refused", None, rows, (), message)
    judged = judge(rows, base, draft, settings)
    failed = [gate for gate in judged if not gate.passed]
    if failed and not draft.force:
        message = "; ".join(f"{gate.message} (limit {gate.limit:g})" for gate in failed)
        return Publication("refused", None, rows, judged, message)
    return Publication("published", None, rows, judged)


def preview(base: Release | None, draft: Draft, settings: Settings) -> Publication:
    """What publishing would merge, and how the gates would judge it."""
    rows = merged_rows(base, draft)
    return Publication("unpublished", None, rows, judge(rows, base, draft, settings))


def merged_rows(base: Release | None, draft: Draft) -> pa.Table:
    """The rows of the release that continues `base` with the draft (RELEASE_SCHEMA)."""
    return merge.merge(
        None if base is None else base.stores,
        draft.rows,
        as_of=draft.as_of,
        expected=draft.expected,
        version=draft.table_version,
    )


def judge(
    rows: pa.Table, base: Release | None, draft: Draft, settings: Settings
) -> tuple[Gate, ...]:
    """Every gate, passed or not, for the merged rows."""
    base_rows = None if base is None else base.stores
    return tuple(
        gates.judge(
            rows,
            base_rows,
            as_of=draft.as_of,
            known=draft.known,
            limits=settings.gates,
            undelivered=draft.undelivered,
        )
    )


def pointer_if_unchanged(
    pointer: Pointer,
    release: str | None,
    draft: Draft,
    accuracy: Mapping[date, str] | None,
    settings: Settings,
) -> Pointer:
    """The pointer after a draft that changes nothing: new scores, and a hold that is lifted."""
    is_current = release is not None and release == pointer.current
    lifted = _without_hold(pointer, draft) if is_current else pointer
    return _with_accuracy(lifted, accuracy, settings)


def pointer_after(
    pointer: Pointer,
    entry: Published,
    draft: Draft,
    accuracy: Mapping[date, str] | None,
    settings: Settings,
) -> Pointer:
    """The pointer after the publication `entry`, with the scores that become visible with it."""
    after = with_publication(pointer, entry, settings)
    if after.current == entry.release:
        after = _without_hold(after, draft)
    return _with_accuracy(after, accuracy, settings)


def with_publication(pointer: Pointer, entry: Published, settings: Settings) -> Pointer:
    """The pointer with one more publication. An older as-of never becomes current."""
    dates = {**pointer.dates, entry.as_of: entry.release}
    for day in sorted(dates)[: -settings.publish.keep_days]:
        del dates[day]
    newest = pointer.current_entry
    becomes_current = newest is None or newest.as_of <= entry.as_of
    current = entry.release if becomes_current else pointer.current
    history = (entry, *pointer.history)
    reachable = {*dates.values(), current}
    kept = tuple(
        publication
        for place, publication in enumerate(history)
        if place < settings.publish.history_entries or publication.release in reachable
    )
    kept_releases = {publication.release for publication in kept}
    return pointer.model_copy(
        update={
            "current": current,
            "history": kept,
            "dates": dict(sorted(dates.items())),
            "bad": tuple(release for release in pointer.bad if release in kept_releases),
            "time_zone": settings.time_zone,
            "deadline": settings.deadline,
            "silent_days": settings.sanity.silent_days,
            "unit": settings.sales.unit,
            "currency": settings.sales.currency,
        }
    )


def _with_accuracy(
    pointer: Pointer, accuracy: Mapping[date, str] | None, settings: Settings
) -> Pointer:
    if not accuracy:
        return pointer
    scores = {**pointer.accuracy, **accuracy}
    for day in sorted(scores)[: -settings.publish.accuracy_days]:
        del scores[day]
    return pointer.model_copy(update={"accuracy": dict(sorted(scores.items()))})


def _without_hold(pointer: Pointer, draft: Draft) -> Pointer:
    """The pointer without its hold if the draft is forced."""
    return pointer.model_copy(update={"hold_through": None}) if draft.force else pointer


def _is_held(pointer: Pointer, draft: Draft) -> bool:
    through = pointer.hold_through
    return through is not None and draft.as_of <= through and not draft.force


def _is_kept(pointer: Pointer, as_of: date, settings: Settings) -> bool:
    """Whether `dates` will name a publication of this as-of. If not, no reader could find it."""
    newer = [day for day in pointer.dates if day > as_of]
    return len(newer) < settings.publish.keep_days


def _is_same(base: pa.Table, merged: pa.Table) -> bool:
    """Whether two releases say the same, regardless of which run computed it and when."""
    origin = ["generated_at", "run_id", "table_version", "attempt"]
    return bool(base.drop_columns(origin).equals(merged.drop_columns(origin)))
