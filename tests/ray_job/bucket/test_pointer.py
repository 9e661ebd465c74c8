"""The pointer: compare-and-set, lost answers, unknown keys, damaged bytes."""

import json
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
    """A change as `publish` makes it: it recognises its own success."""

    def change(current: Pointer) -> Pointer | None:
        if current.entry(name):
            return None
        return current.model_copy(
            update={"current": name, "history": (entry(name), *current.history)}
        )

    return change


def test_before_the_first_publication(storage):
    stored, generation = pointer.read(storage)
    assert (stored, generation) == (Pointer(), None)
    assert stored.current_entry is None


def test_a_move_is_read_back(storage):
    moved = pointer.move(storage, entering("a"))
    stored, _ = pointer.read(storage)
    assert stored == moved
    assert stored.current_entry == entry("a")


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
        return entering("own")(current)

    moved = pointer.move(storage, change)
    assert [entry.release for entry in moved.history] == ["own", "rival"]
    assert len(calls) == 2


def test_racing_writers_all_succeed(storage):
    barrier = Barrier(12)

    def write(name: str) -> None:
        barrier.wait()
        pointer.move(storage, entering(name))

    threads = [Thread(target=write, args=(f"r{number}",)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history = pointer.read(storage)[0].history
    assert sorted(entry.release for entry in history) == sorted(
        f"r{number}" for number in range(12)
    )


def test_a_writer_that_never_wins_gives_up(storage):
    number = 0

    def change(current: Pointer) -> Pointer | None:
        nonlocal number
        number += 1
        _, generation = pointer.read(storage)
        rival = entering(f"r{number}")(current)
        storage.replace(keys.POINTER, rival.to_bytes(), generation)
        return entering("own")(current)

    with pytest.raises(ConflictError, match=r"^results/current\.json: 64 other writers"):
        pointer.move(storage, change)


@pytest.mark.parametrize("status", [None, 503])
def test_a_lost_answer_is_found_in_the_pointer(gcs_shop, gcs, status):
    fault = gcs.faults.add(Fault("ack_lost", op="insert", key=keys.POINTER, status=status))
    pointer.move(gcs_shop.storage, entering("a"))
    assert fault.fired == 1
    assert [entry.release for entry in gcs_shop.pointer.history] == ["a"]


def test_a_forbidden_read_raises_at_once(gcs_shop, gcs):
    gcs.denied.append(keys.POINTER)
    with pytest.raises(StorageError, match=r"^results/current\.json: "):
        pointer.read(gcs_shop.storage)


def test_unknown_keys_are_ignored_and_damaged_bytes_are_named(storage):
    written = entering("a")(Pointer())
    newer = written.model_dump(mode="json") | {"invented_later": 1}
    generation = storage.replace(keys.POINTER, json.dumps(newer).encode(), None)
    read = pointer.read(storage)[0]
    assert read.model_dump(exclude={"invented_later"}) == written.model_dump()
    for damaged in (b"{", b"{}", b"null", b'{"current": "a"}', b'{"current": null}'):
        generation = storage.replace(keys.POINTER, damaged, generation)
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
