"""Publishing: a release is written unseen, then the pointer is moved by one compare-and-set.

The protocol is that of the optimistic commits of Apache Iceberg and Delta Lake: read the current
state, make the next state from it, write on the condition that nobody wrote in between, otherwise
begin again. A writer that lost the answer of the last write finds its own run in the pointer's
history.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date

from ray_job.bucket import keys, pointer, releases
from ray_job.bucket.lost_pointer import refuse_lost_pointer
from ray_job.bucket.parts import sha256
from ray_job.bucket.pointer import Pointer, Published
from ray_job.bucket.releases import Release, ReleaseHeader
from ray_job.bucket.storage import Storage
from ray_job.publishing import decide
from ray_job.publishing.decide import Draft, Publication
from ray_job.settings import Settings


def publish(
    storage: Storage,
    draft: Draft,
    settings: Settings,
    accuracy: Mapping[date, str] | None = None,
    on_written: Callable[[str], None] = lambda _: None,
) -> Publication:
    """Publish a draft, or return why it was not published. Safe to repeat after any failure.

    `accuracy` has the keys of newly written scores by target date; they become visible in the same
    move of the pointer. `on_written` is called with the name of each release that was written.
    """
    publication: Publication | None = None
    written = 0

    def next_state(current: Pointer) -> Pointer | None:
        nonlocal publication, written
        refuse_lost_pointer(storage, current)
        base = _load(storage, current, decide.base_name(current, draft))
        publication = decide.decide(current, base, draft, settings)
        if publication.state == "unchanged":
            return decide.pointer_if_unchanged(
                current, publication.release, draft, accuracy, settings
            )
        if publication.state != "published" or publication.release is not None:
            return None
        release = Release(_header(draft, f"{draft.run_id}-{written}", base), publication.rows)
        written += 1
        entry = _write(storage, release)
        on_written(entry.release)
        publication = Publication("published", entry.release, release.stores, publication.gates)
        return decide.pointer_after(current, entry, draft, accuracy, settings)

    pointer.move(storage, next_state)
    if publication is None:
        raise AssertionError("the pointer was left without a decision")
    return publication


def preview(storage: Storage, draft: Draft, settings: Settings) -> Publication:
    """What publishing would merge, and how the gates would judge it. Writes nothing."""
    current, _ = pointer.read(storage)
    return decide.preview(
        _load(storage, current, decide.base_name(current, draft)), draft, settings
    )


def _load(storage: Storage, current: Pointer, name: str | None) -> Release | None:
    entry = None if name is None else current.entry(name)
    return None if entry is None else releases.load(storage, entry.release, entry.sha256)


def _write(storage: Storage, release: Release) -> Published:
    """Write a release that nobody reads yet; returns the entry that makes it visible."""
    header, data = release.header, releases.encode(release)
    storage.create(keys.release(header.release), data)
    return Published(
        release=header.release,
        sha256=sha256(data),
        as_of=header.as_of,
        run_id=header.run_id,
        published_at=header.created_at,
    )


def _header(draft: Draft, name: str, base: Release | None) -> ReleaseHeader:
    return ReleaseHeader(
        release=name,
        as_of=draft.as_of,
        run_id=draft.run_id,
        created_at=draft.created_at,
        table_version=draft.table_version,
        model_version=draft.model_version,
        horizon=draft.horizon,
        base=None if base is None else base.header.release,
        forced=draft.force,
        hindsight=draft.hindsight,
    )
