"""Publishing: one visible switch, by compare-and-set, whoever else is at it."""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from ray_job.bucket import keys
from ray_job.bucket.errors import StorecastError
from ray_job.operations.rollback import rollback
from ray_job.publishing.publish import preview, publish
from ray_job.settings import Publish
from tests.fake_gcs import Fault
from tests.support.drafts import DAY, FAILED, LENIENT, OK, A, Desk, interposed
from tests.support.shop import generations


@pytest.fixture
def desk(storage):
    return Desk(storage)


def test_the_first_publication(desk):
    made = desk.publish({"a": OK, "b": OK})
    assert made.state == "published"
    current = desk.pointer
    assert (current.current, current.dates) == (made.release, {A: made.release})
    assert current.current_entry.run_id == "run001"
    assert set(desk.rows()) == {"a", "b"}


def test_the_same_again_changes_nothing(desk):
    desk.publish({"a": OK})
    before = generations(desk.storage, "results/")
    draft = desk.draft({"a": OK}, run_id="run001")
    assert publish(desk.storage, draft, desk.settings).state == "published"
    assert generations(desk.storage, "results/") == before


def test_preview_writes_nothing(desk):
    draft = desk.draft({"a": OK})
    before = generations(desk.storage)
    seen = preview(desk.storage, draft, desk.settings)
    assert (seen.state, seen.rows.num_rows) == ("unpublished", 1)
    assert generations(desk.storage) == before


def test_a_gate_leaves_the_pointer_alone(storage):
    desk = Desk(storage, LENIENT.model_copy(update={"gates": type(LENIENT.gates)()}))
    desk.publish({"a": OK, "b": OK, "c": OK}, A - DAY)
    before = storage.read(keys.POINTER)
    made = desk.publish({"a": OK, "b": FAILED, "c": FAILED})
    assert (made.state, made.release) == ("refused", None)
    assert made.message == (
        "2 of 3 stores have no forecast made from sales through Saturday 28 March 2026 (limit 1)"
    )
    assert storage.read(keys.POINTER) == before
    forced = desk.publish({"a": OK, "b": FAILED, "c": FAILED}, force=True)
    assert forced.state == "published"
    assert not all(gate.passed for gate in forced.gates)
    assert desk.rows()["b"]["as_of"] == A - DAY


def test_an_older_as_of_enters_its_date_only(desk):
    newest = desk.publish({"a": OK})
    older = desk.publish({"a": OK}, A - 3 * DAY)
    assert older.state == "published"
    assert desk.pointer.current == newest.release
    assert desk.pointer.dates == {A - 3 * DAY: older.release, A: newest.release}
    assert desk.pointer.history[0].release == older.release


def test_a_run_for_an_older_as_of_that_ends_late(desk):
    """It began first, and is overtaken by the next night."""
    slow = desk.draft({"a": OK, "b": OK}, A - DAY)
    newest = desk.publish({"a": OK, "b": FAILED})
    made = publish(desk.storage, slow, desk.settings)
    assert made.state == "published"
    assert desk.pointer.current == newest.release
    assert desk.rows()["b"]["as_of"] is None
    assert desk.rows(made.release)["b"]["as_of"] == A - DAY


def test_a_slow_nightly_run_after_an_hourly_one_with_newer_inputs(desk):
    desk.publish({"a": OK, "b": OK}, version=1)
    slow = desk.draft({"a": OK, "b": OK}, version=2)
    desk.publish({"a": OK}, version=3, expected={"a", "b"}, known={"a", "b"})
    publish(desk.storage, slow, desk.settings)
    assert [desk.rows()[store]["table_version"] for store in "ab"] == [3, 2]


def test_a_slow_nightly_run_that_failed_where_the_hourly_one_did_not(desk):
    desk.publish({"a": OK, "b": OK}, A - DAY, version=1)
    slow = desk.draft({"a": FAILED, "b": OK}, version=2)
    desk.publish({"a": OK, "b": OK}, version=3)
    publish(desk.storage, slow, desk.settings)
    assert (desk.rows()["a"]["outcome"], desk.rows()["a"]["table_version"]) == (OK, 3)


def test_a_lost_race_merges_again(desk):
    desk.publish({"a": OK, "b": OK}, version=1)
    both = {"expected": {"a", "b"}, "known": {"a", "b"}}
    rival = desk.draft({"b": OK}, version=2, **both)
    mine = desk.draft({"a": OK}, version=2, **both)
    with interposed(desk.storage, lambda: publish(desk.storage, rival, desk.settings)) as storage:
        made = publish(storage, mine, desk.settings)
    assert made.state == "published"
    assert {store: row["run_id"] for store, row in desk.rows().items()} == {
        "a": mine.run_id,
        "b": rival.run_id,
    }
    assert len(desk.pointer.history) == 3


def test_a_rollback_wins_against_a_run_that_is_publishing(desk):
    first = desk.publish({"a": OK}, A - DAY)
    desk.publish({"a": OK}, version=1)
    with interposed(desk.storage, lambda: rollback(desk.storage)) as storage:
        made = publish(storage, desk.draft({"a": OK}, version=2), desk.settings)
    assert made.state == "held"
    assert "held through Saturday 28 March 2026" in made.message
    assert desk.pointer.current == first.release


def test_racing_runs_lose_nothing(desk):
    stores = [f"s{k:02d}" for k in range(12)]
    everything = {"expected": set(stores), "known": set(stores)}
    drafts = [desk.draft({store: OK}, version=1, **everything) for store in stores]
    barrier = threading.Barrier(len(drafts))
    states = []

    def work(draft):
        barrier.wait()
        states.append(publish(desk.storage, draft, desk.settings).state)

    threads = [threading.Thread(target=work, args=(draft,)) for draft in drafts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states == ["published"] * 12
    assert [row["outcome"] for row in desk.rows().values()] == [OK] * 12
    assert len({entry.run_id for entry in desk.pointer.history}) == 12


def test_two_runs_of_the_same_night_publish_once(desk):
    """Their chunks are the same, so that the loser adopted the winner's parts."""
    desk.publish({"a": OK, "b": OK})
    rows = desk.rows()
    again = desk.draft({})
    adopted = type(again)(
        **{
            **{name: getattr(again, name) for name in again.__dataclass_fields__},
            "rows": again.rows.from_pylist(list(rows.values()), schema=again.rows.schema),
            "expected": {"a", "b"},
            "known": {"a", "b"},
        }
    )
    before = generations(desk.storage, "results/")
    assert publish(desk.storage, adopted, desk.settings).state == "unchanged"
    assert generations(desk.storage, "results/") == before


@pytest.mark.parametrize("status", [None, 503, 429])
@pytest.mark.parametrize("what", [keys.POINTER, "results/releases/*"])
def test_a_lost_answer_is_neither_failed_nor_published_twice(gcs_shop, gcs, what, status):
    desk = Desk(gcs_shop.storage)
    desk.publish({"a": OK}, A - DAY)
    fault = gcs.faults.add(Fault("ack_lost", op="insert", key=what, status=status))
    made = desk.publish({"a": OK})
    assert fault.fired == 1
    assert made.state == "published"
    assert [entry.release for entry in desk.pointer.history][0] == made.release
    assert len(desk.pointer.history) == 2
    desk.views()


def test_a_lost_answer_and_a_rival_at_once(gcs_shop, gcs):
    """My write landed, nobody told me, and somebody published on top of it."""
    desk = Desk(gcs_shop.storage)
    both = {"expected": {"a", "b"}, "known": {"a", "b"}}
    rival = desk.draft({"b": OK}, **both)
    mine = desk.draft({"a": OK}, **both)

    def overtake(key):
        if key == keys.POINTER:
            gcs.after_write = None
            publish(desk.storage, rival, desk.settings)

    gcs.after_write = overtake
    gcs.faults.add(Fault("ack_lost", op="insert", key=keys.POINTER))
    made = publish(desk.storage, mine, desk.settings)
    assert made.state == "published"
    assert [entry.run_id for entry in desk.pointer.history] == [rival.run_id, mine.run_id]
    assert {store: row["outcome"] for store, row in desk.rows().items()} == {"a": OK, "b": OK}


def test_a_rollback_whose_answer_is_lost_while_a_rival_publishes(gcs_shop, gcs):
    """It does not go back a second time, from what was published on top of it."""
    desk = Desk(gcs_shop.storage)
    first = desk.publish({"a": OK}, A - DAY)
    bad = desk.publish({"a": OK}, A)
    rival = desk.draft({"a": OK}, A + DAY)

    def overtake(key):
        if key == keys.POINTER:
            gcs.after_write = None
            publish(desk.storage, rival, desk.settings)

    gcs.after_write = overtake
    gcs.faults.add(Fault("ack_lost", op="insert", key=keys.POINTER))
    done = rollback(desk.storage)
    assert (done.release, done.abandoned) == (first.release, (bad.release,))
    current = desk.pointer
    assert current.current_entry.run_id == rival.run_id
    assert current.bad == (bad.release,)


def test_a_rollback_goes_back_from_what_it_saw(desk):
    """The next night is published while it decides: it goes where it would have gone, too."""
    first = desk.publish({"a": OK}, A - DAY)
    bad = desk.publish({"a": OK}, A)
    rival = desk.draft({"a": OK}, A + DAY)
    with interposed(desk.storage, lambda: publish(desk.storage, rival, desk.settings)) as storage:
        done = rollback(storage)
    assert done.release == first.release
    assert done.abandoned[1:] == (bad.release,)
    assert desk.pointer.current == first.release


def test_force_lifts_a_hold_where_nothing_changes(desk):
    desk.publish({"a": OK}, A, version=1)
    desk.publish({"a": OK}, A, version=2)
    rollback(desk.storage)
    (told,) = desk.rows().values()
    draft = desk.draft({}, A, force=True, expected={"a"}, known={"a"})
    again = replace(draft, rows=draft.rows.from_pylist([told], schema=draft.rows.schema))
    made = publish(desk.storage, again, desk.settings)
    assert made.state == "unchanged"
    assert desk.pointer.hold_through is None


def test_a_backfill_for_a_date_that_is_not_kept_is_refused(storage):
    """Nothing would name it: no reader could find it, and every run would publish it again."""
    settings = LENIENT.model_copy(update={"publish": Publish(keep_days=2)})
    desk = Desk(storage, settings)
    for back in (1, 0):
        desk.publish({"a": OK}, A - back * DAY)
    before = desk.pointer
    made = desk.publish({"a": OK}, A - 5 * DAY, force=True)
    assert (made.state, made.release) == ("refused", None)
    assert "publish.keep_days" in made.message
    assert desk.pointer == before


def test_a_storage_that_forbids_writing(gcs_shop, gcs):
    desk = Desk(gcs_shop.storage)
    desk.publish({"a": OK}, A - DAY)
    before = desk.pointer
    draft = desk.draft({"a": OK})
    gcs.denied.append("results/releases/*")
    with pytest.raises(StorecastError, match=r"^results/releases/"):
        publish(desk.storage, draft, desk.settings)
    gcs.denied.clear()
    assert desk.pointer == before


def test_the_pointer_remembers_so_many(storage):
    settings = LENIENT.model_copy(update={"publish": Publish(keep_days=3, history_entries=2)})
    desk = Desk(storage, settings)
    for back in range(6, -1, -1):
        desk.publish({"a": OK}, A - back * DAY)
    current = desk.pointer
    assert list(current.dates) == [A - 2 * DAY, A - DAY, A]
    assert [entry.as_of for entry in current.history] == [A, A - DAY, A - 2 * DAY]
    desk.views()


def test_scores_become_visible_in_the_same_move(desk):
    draft = desk.draft({"a": OK})
    publish(desk.storage, draft, desk.settings, {A: "results/accuracy/x"})
    assert desk.pointer.accuracy == {A: "results/accuracy/x"}
    publish(desk.storage, desk.draft({"a": OK}, A + DAY), desk.settings, {A + DAY: "y"})
    assert desk.pointer.accuracy == {A: "results/accuracy/x", A + DAY: "y"}


def test_only_so_many_scores_are_kept(storage):
    settings = LENIENT.model_copy(update={"publish": Publish(accuracy_days=2)})
    desk = Desk(storage, settings)
    for ahead in range(4):
        day = A + timedelta(days=ahead)
        publish(storage, desk.draft({"a": OK}, day), settings, {day: f"k{ahead}"})
    assert list(desk.pointer.accuracy.values()) == ["k2", "k3"]
