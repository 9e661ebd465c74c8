"""The pointer: compare-and-set, lost answers, and what older or newer writers left in it."""

from datetime import UTC, date, datetime, time
from threading import Barrier, Thread

import pytest

from ray_job.bucket import keys, pointer
from ray_job.bucket.errors import ConflictError, CorruptError, StorageError
from ray_job.bucket.pointer import Pointer, Published
from tests.fake_gcs import Fault


def entry(name: str, as_of: date = date(2026, 3, 28)) -> Published:
    return Published(
        release=name,
        sha256="0" * 64,
        as_of=as_of,
        run_id=f"run-{name}",
        published_at=datetime(2026, 3, 29, 0, 5, tzinfo=UTC),
    )


def entering(name: str):
    """A change like publishing's: it knows its own success."""

    def change(current: Pointer) -> Pointer | None:
        if current.entry(name):
            return None
        return current.model_copy(
            update={"current": name, "history": (entry(name), *current.history)}
        )

    return change


def test_nothing_was_ever_published(storage):
    found, generation = pointer.read(storage)
    assert (found, generation) == (Pointer(), None)
    assert found.current_entry is None


def test_a_move_is_read_back(storage):
    moved = pointer.move(storage, entering("a"))
    found, _ = pointer.read(storage)
    assert found == moved
    assert found.current_entry == entry("a")


def test_no_change_writes_nothing(storage):
    pointer.move(storage, entering("a"))
    _, before = pointer.read(storage)
    pointer.move(storage, lambda current: current)
    pointer.move(storage, lambda _: None)
    assert pointer.read(storage)[1] == before


def test_a_lost_race_reads_again(storage):
    calls = []

    def change(current: Pointer) -> Pointer | None:
        if not calls:
            pointer.move(storage, entering("rival"))
        calls.append(current)
        return entering("mine")(current)

    moved = pointer.move(storage, change)
    assert [one.release for one in moved.history] == ["mine", "rival"]
    assert len(calls) == 2


def test_racing_writers_all_succeed(storage):
    barrier = Barrier(12)

    def work(name: str) -> None:
        barrier.wait()
        pointer.move(storage, entering(name))

    threads = [Thread(target=work, args=(f"r{number}",)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history = pointer.read(storage)[0].history
    assert sorted(one.release for one in history) == sorted(f"r{number}" for number in range(12))


def test_a_writer_that_never_wins_gives_up(storage):
    number = 0

    def change(current: Pointer) -> Pointer | None:
        nonlocal number
        number += 1
        there = pointer.read(storage)[1]
        rival = current.model_copy(update={"bad": (f"r{number}",)})
        storage.replace(keys.POINTER, rival.to_bytes(), there)
        return current.model_copy(update={"current": "mine"})

    with pytest.raises(ConflictError, match=r"^results/current\.json: 64 writers"):
        pointer.move(storage, change)


@pytest.mark.parametrize("status", [None, 503])
def test_a_lost_answer_is_found_in_the_pointer(gcs_shop, gcs, status):
    fault = gcs.faults.add(Fault("ack_lost", op="insert", key=keys.POINTER, status=status))
    pointer.move(gcs_shop.storage, entering("a"))
    assert fault.fired == 1
    assert [one.release for one in gcs_shop.pointer.history] == ["a"]


def test_forbidden_is_said_at_once(gcs_shop, gcs):
    gcs.denied.append(keys.POINTER)
    with pytest.raises(StorageError, match=r"^results/current\.json: "):
        pointer.read(gcs_shop.storage)


def test_unknown_keys_are_ignored_and_rubbish_is_named(storage):
    newer = b'{"current": null, "invented_later": 1}'
    generation = storage.replace(keys.POINTER, newer, None)
    assert pointer.read(storage)[0] == Pointer()
    storage.replace(keys.POINTER, b"{", generation)
    with pytest.raises(CorruptError, match=r"^results/current\.json: "):
        pointer.read(storage)


def test_the_document_is_readable_by_people(storage):
    pointer.move(
        storage,
        lambda _: Pointer(
            current="a",
            history=(entry("a"),),
            dates={date(2026, 3, 28): "a"},
            time_zone="Europe/Berlin",
            deadline=time(5, 30),
        ),
    )
    text = storage.read(keys.POINTER).decode()
    assert '"2026-03-28": "a"' in text
    assert '"deadline": "05:30:00"' in text
