"""Rollback: the release that readers get, the hold, and the base of the next night."""

from datetime import UTC, datetime, timedelta

import pytest

from ray_job.bucket import keys
from ray_job.bucket.errors import CorruptError, InputError, NotFoundError
from ray_job.operations.clean_up import clean_up
from ray_job.operations.rollback import rollback
from tests.support.drafts import DAY, FAILED, OK, A, run_name


@pytest.fixture
def nights(publisher):
    """Three nights and an hourly run of the last one: the releases by name."""
    publications = [publisher.publish({"a": OK, "b": OK}, A - back * DAY) for back in (2, 1, 0)]
    publications.append(
        publisher.publish({"a": OK}, version=2, expected={"a", "b"}, known={"a", "b"})
    )
    return [publication.release for publication in publications]


def test_to_the_one_before(publisher, nights):
    report = rollback(publisher.storage)
    assert (report.release, report.abandoned, report.hold_through) == (nights[2], (nights[3],), A)
    current = publisher.pointer
    assert (current.current, current.bad, current.hold_through) == (nights[2], (nights[3],), A)
    assert current.dates[A] == nights[2]
    publisher.views()


def test_further_back(publisher, nights):
    report = rollback(publisher.storage, nights[1])
    assert report.abandoned == (nights[3], nights[2])
    current = publisher.pointer
    assert current.current == nights[1]
    assert current.dates == {A - 2 * DAY: nights[0], A - DAY: nights[1]}
    assert current.hold_through == A


def test_given_again_it_does_what_was_asked_once(publisher, nights):
    """Whoever gives it again may not know whether it was killed before or after its move."""
    rollback(publisher.storage)
    before = publisher.pointer
    for _ in range(2):
        report = rollback(publisher.storage)
        assert (report.release, report.repeated) == (nights[2], True)
        assert (report.abandoned, report.changes_model) == ((), False)
        assert publisher.pointer == before
    publisher.publish({"a": OK}, A - 9 * DAY)  # a backfill changes nothing of it
    assert rollback(publisher.storage).repeated


def test_a_name_leads_further_back(publisher, nights):
    rollback(publisher.storage)
    for back in (1, 0):
        report = rollback(publisher.storage, nights[back])
        assert (report.release, report.repeated) == (nights[back], False)
    assert publisher.pointer.hold_through == A
    assert rollback(publisher.storage).repeated


def test_there_is_nothing_before_the_first_release(publisher):
    publisher.publish({"a": OK})
    with pytest.raises(InputError, match="no good release before"):
        rollback(publisher.storage)


def test_the_next_publication_can_be_rolled_back_again(publisher, nights):
    rollback(publisher.storage)
    again = publisher.publish({"a": OK, "b": OK}, version=9, force=True)
    assert publisher.pointer.current == again.release
    report = rollback(publisher.storage)
    assert (report.release, report.abandoned) == (nights[2], (again.release,))


def test_to_the_same_again_changes_nothing(publisher, nights):
    rollback(publisher.storage, nights[1])
    before = publisher.pointer
    report = rollback(publisher.storage, nights[1])
    assert publisher.pointer == before
    assert report.abandoned == ()
    assert not report.changes_model


def test_backfills_stay(publisher, nights):
    old = publisher.publish({"a": OK}, A - 9 * DAY)
    rollback(publisher.storage, nights[1])
    assert publisher.pointer.dates[A - 9 * DAY] == old.release
    assert publisher.pointer.bad == (nights[3], nights[2])


def test_what_is_refused(publisher, nights):
    rollback(publisher.storage)
    with pytest.raises(InputError, match="marked this release as bad"):
        rollback(publisher.storage, nights[3])
    with pytest.raises(InputError, match="no such release is known"):
        rollback(publisher.storage, "unheard-of")


def test_nothing_published(publisher):
    with pytest.raises(InputError, match="nothing was published yet"):
        rollback(publisher.storage)


def test_a_damaged_target_is_refused(publisher, nights):
    key = keys.release(nights[2])
    intact = publisher.storage.read_versioned(key)
    publisher.storage.replace(key, intact.data[:-9], intact.generation)
    before = publisher.pointer
    with pytest.raises(CorruptError):
        rollback(publisher.storage)
    assert publisher.pointer == before


@pytest.mark.parametrize("gone", [True, False])
def test_away_from_a_damaged_release(publisher, nights, gone):
    """A damaged release stops every run that is based on it, so a rollback must be possible."""
    key = keys.release(nights[3])
    intact = publisher.storage.read_versioned(key)
    if gone:
        publisher.storage.delete(key, intact.generation)
    else:
        publisher.storage.replace(key, intact.data[:-9], intact.generation)
    before = publisher.pointer
    with pytest.raises(NotFoundError if gone else CorruptError, match=nights[3]):
        publisher.publish({"a": OK, "b": OK}, A + DAY)
    assert publisher.pointer == before
    report = rollback(publisher.storage)
    assert (report.release, report.abandoned_model_version) == (nights[2], None)
    assert not report.changes_model
    assert publisher.publish({"a": FAILED, "b": OK}, A + DAY).state == "published"
    assert publisher.rows()["a"]["as_of"] == A
    publisher.views()
    # Its objects are orphans now, and clean-up works again.
    publisher.storage.create(keys.part(A, "feed" * 8, 0), b"x")
    views = publisher.views()
    assert clean_up(publisher.storage, datetime.now(UTC) + timedelta(days=8)).objects >= 1
    assert publisher.views() == views


def test_it_says_when_the_model_changed(publisher):
    publisher.publish({"a": OK}, A - DAY)
    publisher.publish({"a": OK}, model_version="m2")
    report = rollback(publisher.storage)
    assert (report.model_version, report.abandoned_model_version) == ("m1", "m2")
    assert report.changes_model


def test_no_scheduled_run_publishes_what_is_held(publisher, nights):
    rollback(publisher.storage)
    before = publisher.pointer
    for as_of in (A, A - DAY, A - 5 * DAY):
        held = publisher.publish({"a": OK, "b": OK}, as_of, version=9)
        assert held.state == "held"
        assert "Saturday 28 March 2026" in held.message
    assert publisher.pointer == before


def test_the_next_night_publishes_and_carries_nothing_bad(publisher, nights):
    rollback(publisher.storage)
    publication = publisher.publish({"a": FAILED, "b": OK}, A + DAY)
    assert publication.state == "published"
    row = publisher.rows()["a"]
    assert (row["as_of"], row["table_version"], row["run_id"]) == (A, 1, run_name(3))
    assert publisher.pointer.current == publication.release


def test_force_lifts_the_hold(publisher, nights):
    rollback(publisher.storage)
    forced = publisher.publish({"a": OK}, version=3, force=True)
    assert forced.state == "published"
    assert publisher.pointer.hold_through is None
    assert publisher.pointer.dates[A] == forced.release
    assert publisher.publish({"a": OK}, version=4).state == "published"


def test_a_forced_backfill_leaves_the_hold(publisher, nights):
    rollback(publisher.storage)
    assert publisher.publish({"a": OK}, A - 9 * DAY, force=True).state == "published"
    assert publisher.pointer.hold_through == A
