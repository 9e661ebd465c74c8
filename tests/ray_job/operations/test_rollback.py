"""Rollback: the release that readers get, the hold, and the base of the next night."""

from datetime import UTC, datetime, timedelta

import pytest

from ray_job.bucket import keys
from ray_job.bucket.errors import CorruptError, InputError, NotFoundError
from ray_job.operations.clean_up import clean_up
from ray_job.operations.rollback import rollback
from tests.support.drafts import DAY, FAILED, OK, A, Desk


@pytest.fixture
def desk(storage):
    return Desk(storage)


@pytest.fixture
def nights(desk):
    """Three nights and an hourly run of the last one: the releases by name."""
    publications = [desk.publish({"a": OK, "b": OK}, A - back * DAY) for back in (2, 1, 0)]
    publications.append(desk.publish({"a": OK}, version=2, expected={"a", "b"}, known={"a", "b"}))
    return [publication.release for publication in publications]


def test_to_the_one_before(desk, nights):
    report = rollback(desk.storage)
    assert (report.release, report.abandoned, report.hold_through) == (nights[2], (nights[3],), A)
    current = desk.pointer
    assert (current.current, current.bad, current.hold_through) == (nights[2], (nights[3],), A)
    assert current.dates[A] == nights[2]
    desk.views()


def test_further_back(desk, nights):
    report = rollback(desk.storage, nights[1])
    assert report.abandoned == (nights[3], nights[2])
    current = desk.pointer
    assert current.current == nights[1]
    assert current.dates == {A - 2 * DAY: nights[0], A - DAY: nights[1]}
    assert current.hold_through == A


def test_twice_goes_further(desk, nights):
    rollback(desk.storage)
    assert rollback(desk.storage).release == nights[1]
    assert rollback(desk.storage).release == nights[0]
    assert desk.pointer.hold_through == A
    with pytest.raises(InputError, match="no good release before"):
        rollback(desk.storage)


def test_to_the_same_again_changes_nothing(desk, nights):
    rollback(desk.storage, nights[1])
    before = desk.pointer
    report = rollback(desk.storage, nights[1])
    assert desk.pointer == before
    assert report.abandoned == ()
    assert not report.changes_model


def test_backfills_stay(desk, nights):
    old = desk.publish({"a": OK}, A - 9 * DAY)
    rollback(desk.storage, nights[1])
    assert desk.pointer.dates[A - 9 * DAY] == old.release
    assert desk.pointer.bad == (nights[3], nights[2])


def test_what_is_refused(desk, nights):
    rollback(desk.storage)
    with pytest.raises(InputError, match="marked this release as bad"):
        rollback(desk.storage, nights[3])
    with pytest.raises(InputError, match="no such release is known"):
        rollback(desk.storage, "unheard-of")


def test_nothing_published(desk):
    with pytest.raises(InputError, match="nothing was published yet"):
        rollback(desk.storage)


def test_a_damaged_target_is_refused(desk, nights):
    key = keys.release(nights[2])
    intact = desk.storage.read_versioned(key)
    desk.storage.replace(key, intact.data[:-9], intact.generation)
    before = desk.pointer
    with pytest.raises(CorruptError):
        rollback(desk.storage)
    assert desk.pointer == before


@pytest.mark.parametrize("gone", [True, False])
def test_away_from_a_damaged_release(desk, nights, gone):
    """A damaged release stops every run that is based on it, so a rollback must be possible."""
    key = keys.release(nights[3])
    intact = desk.storage.read_versioned(key)
    if gone:
        desk.storage.delete(key, intact.generation)
    else:
        desk.storage.replace(key, intact.data[:-9], intact.generation)
    before = desk.pointer
    with pytest.raises(NotFoundError if gone else CorruptError, match=nights[3]):
        desk.publish({"a": OK, "b": OK}, A + DAY)
    assert desk.pointer == before
    report = rollback(desk.storage)
    assert (report.release, report.abandoned_model_version) == (nights[2], None)
    assert not report.changes_model
    assert desk.publish({"a": FAILED, "b": OK}, A + DAY).state == "published"
    assert desk.rows()["a"]["as_of"] == A
    desk.views()
    # Its objects are orphans now, and clean-up works again.
    desk.storage.create(keys.part(A, "feed", 0), b"x")
    views = desk.views()
    assert clean_up(desk.storage, datetime.now(UTC) + timedelta(days=8)).objects >= 1
    assert desk.views() == views


def test_it_says_when_the_model_changed(desk):
    desk.publish({"a": OK}, A - DAY)
    desk.publish({"a": OK}, model_version="m2")
    report = rollback(desk.storage)
    assert (report.model_version, report.abandoned_model_version) == ("m1", "m2")
    assert report.changes_model


def test_no_scheduled_run_publishes_what_is_held(desk, nights):
    rollback(desk.storage)
    before = desk.pointer
    for as_of in (A, A - DAY, A - 5 * DAY):
        held = desk.publish({"a": OK, "b": OK}, as_of, version=9)
        assert held.state == "held"
        assert "Saturday 28 March 2026" in held.message
    assert desk.pointer == before


def test_the_next_night_publishes_and_carries_nothing_bad(desk, nights):
    rollback(desk.storage)
    publication = desk.publish({"a": FAILED, "b": OK}, A + DAY)
    assert publication.state == "published"
    row = desk.rows()["a"]
    assert (row["as_of"], row["table_version"], row["run_id"]) == (A, 1, "run003")
    assert desk.pointer.current == publication.release


def test_force_lifts_the_hold(desk, nights):
    rollback(desk.storage)
    forced = desk.publish({"a": OK}, version=3, force=True)
    assert forced.state == "published"
    assert desk.pointer.hold_through is None
    assert desk.pointer.dates[A] == forced.release
    assert desk.publish({"a": OK}, version=4).state == "published"


def test_a_forced_backfill_leaves_the_hold(desk, nights):
    rollback(desk.storage)
    assert desk.publish({"a": OK}, A - 9 * DAY, force=True).state == "published"
    assert desk.pointer.hold_through == A
