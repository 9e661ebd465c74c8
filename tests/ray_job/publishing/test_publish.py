"""Publishing: the pointer moves by compare-and-set, also when others publish at once."""

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from ray_job.bucket import keys
from ray_job.bucket.errors import StorecastError
from ray_job.operations.rollback import rollback
from ray_job.publishing.publish import preview, publish
from ray_job.settings import Publish
from tests.fake_gcs import Fault
from tests.support.drafts import DAY, FAILED, LENIENT, OK, A, Publisher, interposed, run_name
from tests.support.shop import generations
from tests.support.threads import at_once


def lose_answer_and_overtake(gcs, publisher, rival):
    """The next answer about the pointer is lost, and `rival` is published right after the write."""

    def overtake(key):
        if key == keys.POINTER:
            gcs.after_write = None
            publish(publisher.storage, rival, publisher.settings)

    gcs.after_write = overtake
    gcs.faults.add(Fault("ack_lost", op="insert", key=keys.POINTER))


def test_the_first_publication(publisher):
    made = publisher.publish({"a": OK, "b": OK})
    assert made.state == "published"
    current = publisher.pointer
    assert (current.current, current.dates) == (made.release, {A: made.release})
    assert current.current_entry.run_id == run_name(1)
    assert set(publisher.rows()) == {"a", "b"}


def test_the_same_again_changes_nothing(publisher):
    publisher.publish({"a": OK})
    before = generations(publisher.storage, "results/")
    draft = publisher.draft({"a": OK}, run_id=run_name(1))
    assert publish(publisher.storage, draft, publisher.settings).state == "published"
    assert generations(publisher.storage, "results/") == before


def test_preview_writes_nothing(publisher):
    draft = publisher.draft({"a": OK})
    before = generations(publisher.storage)
    publication = preview(publisher.storage, draft, publisher.settings)
    assert (publication.state, publication.rows.num_rows) == ("unpublished", 1)
    assert generations(publisher.storage) == before


def test_a_gate_leaves_the_pointer_alone(storage):
    publisher = Publisher(storage, LENIENT.model_copy(update={"gates": type(LENIENT.gates)()}))
    publisher.publish({"a": OK, "b": OK, "c": OK}, A - DAY)
    before = storage.read(keys.POINTER)
    made = publisher.publish({"a": OK, "b": FAILED, "c": FAILED})
    assert (made.state, made.release) == ("refused", None)
    assert made.message == (
        "2 of 3 stores have no forecast made from sales through Saturday 28 March 2026 (limit 1)"
    )
    assert storage.read(keys.POINTER) == before
    forced = publisher.publish({"a": OK, "b": FAILED, "c": FAILED}, force=True)
    assert forced.state == "published"
    assert not all(gate.passed for gate in forced.gates)
    assert publisher.rows()["b"]["as_of"] == A - DAY


def test_an_older_as_of_enters_its_date_only(publisher):
    newest = publisher.publish({"a": OK})
    older = publisher.publish({"a": OK}, A - 3 * DAY)
    assert older.state == "published"
    assert publisher.pointer.current == newest.release
    assert publisher.pointer.dates == {A - 3 * DAY: older.release, A: newest.release}
    assert publisher.pointer.history[0].release == older.release


def test_a_run_for_an_older_as_of_that_ends_late(publisher):
    """It begins before the next night and publishes after it."""
    slow = publisher.draft({"a": OK, "b": OK}, A - DAY)
    newest = publisher.publish({"a": OK, "b": FAILED})
    made = publish(publisher.storage, slow, publisher.settings)
    assert made.state == "published"
    assert publisher.pointer.current == newest.release
    assert publisher.rows()["b"]["as_of"] is None
    assert publisher.rows(made.release)["b"]["as_of"] == A - DAY


def test_a_slow_nightly_run_after_an_hourly_one_with_newer_inputs(publisher):
    publisher.publish({"a": OK, "b": OK}, version=1)
    slow = publisher.draft({"a": OK, "b": OK}, version=2)
    publisher.publish({"a": OK}, version=3, expected={"a", "b"}, known={"a", "b"})
    publish(publisher.storage, slow, publisher.settings)
    assert [publisher.rows()[store]["table_version"] for store in "ab"] == [3, 2]


def test_a_slow_nightly_run_that_failed_where_the_hourly_one_did_not(publisher):
    publisher.publish({"a": OK, "b": OK}, A - DAY, version=1)
    slow = publisher.draft({"a": FAILED, "b": OK}, version=2)
    publisher.publish({"a": OK, "b": OK}, version=3)
    publish(publisher.storage, slow, publisher.settings)
    assert (publisher.rows()["a"]["outcome"], publisher.rows()["a"]["table_version"]) == (OK, 3)


def test_a_lost_race_merges_again(publisher):
    publisher.publish({"a": OK, "b": OK}, version=1)
    both = {"expected": {"a", "b"}, "known": {"a", "b"}}
    rival = publisher.draft({"b": OK}, version=2, **both)
    draft = publisher.draft({"a": OK}, version=2, **both)
    with interposed(
        publisher.storage, lambda: publish(publisher.storage, rival, publisher.settings)
    ) as storage:
        made = publish(storage, draft, publisher.settings)
    assert made.state == "published"
    assert {store: row["run_id"] for store, row in publisher.rows().items()} == {
        "a": draft.run_id,
        "b": rival.run_id,
    }
    assert len(publisher.pointer.history) == 3


def test_a_rollback_wins_against_a_run_that_is_publishing(publisher):
    first = publisher.publish({"a": OK}, A - DAY)
    publisher.publish({"a": OK}, version=1)
    with interposed(publisher.storage, lambda: rollback(publisher.storage)) as storage:
        made = publish(storage, publisher.draft({"a": OK}, version=2), publisher.settings)
    assert made.state == "held"
    assert "held through Saturday 28 March 2026" in made.message
    assert publisher.pointer.current == first.release


def test_racing_runs_lose_nothing(publisher):
    stores = [f"s{k:02d}" for k in range(12)]
    everything = {"expected": set(stores), "known": set(stores)}
    drafts = [publisher.draft({store: OK}, version=1, **everything) for store in stores]
    calls = [partial(publish, publisher.storage, draft, publisher.settings) for draft in drafts]
    assert [publication.state for publication in at_once(calls)] == ["published"] * 12
    assert [row["outcome"] for row in publisher.rows().values()] == [OK] * 12
    assert len({entry.run_id for entry in publisher.pointer.history}) == 12


def test_two_runs_of_the_same_night_publish_once(publisher):
    """Their chunks are the same, so that the second run adopts the parts of the first."""
    publisher.publish({"a": OK, "b": OK})
    rows = publisher.rows()
    again = publisher.draft({})
    adopted = type(again)(
        **{
            **{name: getattr(again, name) for name in again.__dataclass_fields__},
            "rows": again.rows.from_pylist(list(rows.values()), schema=again.rows.schema),
            "expected": {"a", "b"},
            "known": {"a", "b"},
        }
    )
    before = generations(publisher.storage, "results/")
    assert publish(publisher.storage, adopted, publisher.settings).state == "unchanged"
    assert generations(publisher.storage, "results/") == before


@pytest.mark.parametrize("status", [None, 503, 429])
@pytest.mark.parametrize("pattern", [keys.POINTER, "results/releases/*"])
def test_a_lost_answer_is_neither_failed_nor_published_twice(gcs_shop, gcs, pattern, status):
    publisher = Publisher(gcs_shop.storage)
    publisher.publish({"a": OK}, A - DAY)
    fault = gcs.faults.add(Fault("ack_lost", op="insert", key=pattern, status=status))
    made = publisher.publish({"a": OK})
    assert fault.fired == 1
    assert made.state == "published"
    assert [entry.release for entry in publisher.pointer.history][0] == made.release
    assert len(publisher.pointer.history) == 2
    publisher.views()


def test_a_lost_answer_and_a_rival_at_once(gcs_shop, gcs):
    """The pointer is written, the answer is lost, and a rival publishes on top of it."""
    publisher = Publisher(gcs_shop.storage)
    both = {"expected": {"a", "b"}, "known": {"a", "b"}}
    rival = publisher.draft({"b": OK}, **both)
    draft = publisher.draft({"a": OK}, **both)

    lose_answer_and_overtake(gcs, publisher, rival)
    made = publish(publisher.storage, draft, publisher.settings)
    assert made.state == "published"
    assert [entry.run_id for entry in publisher.pointer.history] == [rival.run_id, draft.run_id]
    assert {store: row["outcome"] for store, row in publisher.rows().items()} == {"a": OK, "b": OK}


def test_a_rollback_whose_answer_is_lost_while_a_rival_publishes(gcs_shop, gcs):
    """The rollback is not repeated for the release that the rival published on top."""
    publisher = Publisher(gcs_shop.storage)
    first = publisher.publish({"a": OK}, A - DAY)
    bad = publisher.publish({"a": OK}, A)
    rival = publisher.draft({"a": OK}, A + DAY)

    lose_answer_and_overtake(gcs, publisher, rival)
    done = rollback(publisher.storage)
    assert (done.release, done.abandoned) == (first.release, (bad.release,))
    current = publisher.pointer
    assert current.current_entry.run_id == rival.run_id
    assert current.bad == (bad.release,)


def test_a_rollback_goes_back_from_what_it_saw(publisher):
    """A night that is published meanwhile is abandoned as well."""
    first = publisher.publish({"a": OK}, A - DAY)
    bad = publisher.publish({"a": OK}, A)
    rival = publisher.draft({"a": OK}, A + DAY)
    with interposed(
        publisher.storage, lambda: publish(publisher.storage, rival, publisher.settings)
    ) as storage:
        done = rollback(storage)
    assert done.release == first.release
    assert done.abandoned[1:] == (bad.release,)
    assert publisher.pointer.current == first.release


def test_force_lifts_a_hold_where_nothing_changes(publisher):
    publisher.publish({"a": OK}, A, version=1)
    publisher.publish({"a": OK}, A, version=2)
    rollback(publisher.storage)
    (row,) = publisher.rows().values()
    draft = publisher.draft({}, A, force=True, expected={"a"}, known={"a"})
    again = replace(draft, rows=draft.rows.from_pylist([row], schema=draft.rows.schema))
    made = publish(publisher.storage, again, publisher.settings)
    assert made.state == "unchanged"
    assert publisher.pointer.hold_through is None


def test_a_backfill_for_a_date_that_is_not_kept_is_refused(storage):
    """The pointer would not name it, so that no reader would find it."""
    settings = LENIENT.model_copy(update={"publish": Publish(keep_days=2)})
    publisher = Publisher(storage, settings)
    for back in (1, 0):
        publisher.publish({"a": OK}, A - back * DAY)
    before = publisher.pointer
    made = publisher.publish({"a": OK}, A - 5 * DAY, force=True)
    assert (made.state, made.release) == ("refused", None)
    assert "publish.keep_days" in made.message
    assert publisher.pointer == before


def test_a_storage_that_forbids_writing(gcs_shop, gcs):
    publisher = Publisher(gcs_shop.storage)
    publisher.publish({"a": OK}, A - DAY)
    before = publisher.pointer
    draft = publisher.draft({"a": OK})
    gcs.denied.append("results/releases/*")
    with pytest.raises(StorecastError, match=r"^results/releases/"):
        publish(publisher.storage, draft, publisher.settings)
    gcs.denied.clear()
    assert publisher.pointer == before


def test_the_pointer_remembers_so_many(storage):
    settings = LENIENT.model_copy(update={"publish": Publish(keep_days=3, history_entries=2)})
    publisher = Publisher(storage, settings)
    for back in range(6, -1, -1):
        publisher.publish({"a": OK}, A - back * DAY)
    current = publisher.pointer
    assert list(current.dates) == [A - 2 * DAY, A - DAY, A]
    assert [entry.as_of for entry in current.history] == [A, A - DAY, A - 2 * DAY]
    publisher.views()


def test_scores_become_visible_in_the_same_move(publisher):
    draft = publisher.draft({"a": OK})
    publish(publisher.storage, draft, publisher.settings, {A: "results/accuracy/x"})
    assert publisher.pointer.accuracy == {A: "results/accuracy/x"}
    publish(
        publisher.storage, publisher.draft({"a": OK}, A + DAY), publisher.settings, {A + DAY: "y"}
    )
    assert publisher.pointer.accuracy == {A: "results/accuracy/x", A + DAY: "y"}


def test_only_so_many_scores_are_kept(storage):
    settings = LENIENT.model_copy(update={"publish": Publish(accuracy_days=2)})
    publisher = Publisher(storage, settings)
    for ahead in range(4):
        day = A + timedelta(days=ahead)
        publish(storage, publisher.draft({"a": OK}, day), settings, {day: f"k{ahead}"})
    assert list(publisher.pointer.accuracy.values()) == ["k2", "k3"]
