"""Gates: a table of cases, with the sentences that the receipt has."""

from datetime import date, timedelta

import pyarrow as pa
import pytest

from ray_job.bucket.receipts import Gate
from ray_job.bucket.releases import RELEASE_SCHEMA
from ray_job.publishing import gates
from ray_job.settings import Gates

A = date(2026, 12, 22)
DAYS = [A + timedelta(days=k) for k in range(1, 8)]


def row(store, outcome="ok", as_of=A, through=A, predicted=10.0, usual=10.0, *, expected=True):
    fields = {"store_id": str(store), "outcome": outcome, "expected": expected}
    if as_of is None:
        return fields
    by_day = {"predicted": predicted, "usual": usual}
    return fields | {
        "as_of": as_of,
        "data_through": through,
        "target_dates": DAYS,
        **{k: v if isinstance(v, list) else [v] * 7 for k, v in by_day.items()},
    }


def judged(rows, base=None, known=None, **limits) -> dict[str, Gate]:
    table = pa.Table.from_pylist(rows, schema=RELEASE_SCHEMA)
    before = None if base is None else pa.Table.from_pylist(base, schema=RELEASE_SCHEMA)
    ids = {fields["store_id"] for fields in rows} if known is None else known
    judged_gates = gates.judge(table, before, as_of=A, known=ids, limits=Gates(**limits))
    return {gate.name: gate for gate in judged_gates}


def failing(*args, **more):
    return {name for name, gate in judged(*args, **more).items() if not gate.passed}


YESTERDAY = A - timedelta(days=1)


def test_a_good_night():
    assert failing([row(k) for k in range(100)]) == set()


@pytest.mark.parametrize(
    ("stores", "absent", "passes"),
    [
        (10, 1, True),  # one store is always allowed
        (10, 2, False),
        (100, 1, True),
        (100, 2, False),
        (200, 2, True),
        (200, 3, False),
        (10_000, 1, True),
        (10_000, 100, True),
        (10_000, 101, False),
        (1, 1, True),
    ],
)
def test_missing_stores(stores, absent, passes):
    rows = [
        row(k, "failed", YESTERDAY if k % 2 else None) if k < absent else row(k)
        for k in range(stores)
    ]
    gate = judged(rows)["missing_stores"]
    assert gate.passed is passes
    assert gate.message == (
        f"{absent:,} of {stores:,} stores have no forecast made from sales through"
        " Tuesday 22 December 2026"
    )


def test_stores_of_which_nothing_was_ever_delivered_do_not_count():
    rows = [row(k, "no_data", None) for k in range(50)] + [row(99)]
    assert failing(rows) == set()


def test_stores_that_lost_their_data_count():
    rows = [row(k, "no_data", YESTERDAY) for k in range(5)] + [row(99)]
    assert failing(rows) == {"missing_stores"}


def test_nothing_at_all_does_not_pass():
    rows = [row(k, "no_data", None) for k in range(5)]
    gate = judged(rows)["missing_stores"]
    assert (gate.passed, gate.message) == (False, "no store has any sales")
    assert not judged([])["missing_stores"].passed


def test_unexpected_stores_do_not_count():
    rows = [row(1)] + [row(k, "failed", YESTERDAY, expected=False) for k in range(2, 9)]
    assert failing(rows) == set()


def test_late_stores():
    rows = [row(k, through=YESTERDAY if k < 26 else A) for k in range(100)]
    gate = judged(rows)["late_stores"]
    assert (gate.passed, gate.value, gate.limit) == (False, 0.26, 0.25)
    assert gate.message == "26 of 100 stores lack the sales of Tuesday 22 December 2026"
    assert failing(rows, late_share=0.3) == set()


def test_vanished_stores():
    base = [row(k) for k in range(9)]
    rows = [row(k) for k in range(3)]
    gate = judged(rows, base)["vanished_stores"]
    assert (gate.passed, gate.value) == (False, 6)
    assert gate.message.endswith("3, 4, 5, 6, 7 …")
    assert failing(rows, base, vanished_stores=6) == set()


def test_a_store_that_is_closed_for_good_has_not_vanished():
    base = [row(1), row(2)]
    rows = [row(1), row(2, expected=False)]
    assert failing(rows, base, known={"1", "2"}) == set()
    assert failing(rows, base, known={"1"}) == {"vanished_stores"}


@pytest.mark.parametrize(
    ("predicted", "passes"),
    [(10.0, True), (19.9, True), (20.1, False), (5.1, True), (4.9, False), (0.0, False)],
)
def test_level(predicted, passes):
    gate = judged([row(k, predicted=predicted) for k in range(5)])["level"]
    assert gate.passed is passes
    assert f"is {predicted / 10:.2f} times what the same stores sold on" in gate.message
    assert Gate.model_validate_json(gate.model_dump_json()) == gate


def test_one_bad_day_is_enough():
    day = [10.0] * 3 + [100.0] + [10.0] * 3
    gate = judged([row(k, predicted=day) for k in range(5)])["level"]
    assert not gate.passed
    assert gate.message.startswith("the forecast of Saturday 26 December 2026 is 10.00 times")


def test_no_gate_fails_when_all_stores_are_closed():
    """`usual` is 0 where a store is closed on the target date, as all are at Christmas."""
    closed = [row(k, "closed", predicted=0.0, usual=0.0) for k in range(10)]
    assert failing(closed) == set()
    assert judged(closed)["level"].message == "no store is open that was open lately"
    days = [10.0, 10.0, 0.0, 0.0, 0.0, 10.0, 10.0]
    assert failing([row(k, predicted=days, usual=days) for k in range(10)]) == set()


def test_a_new_store_has_no_level_yet():
    assert failing([row(1), row(2, "fallback", predicted=9e9, usual=0.0)]) == set()


def test_the_level_names_the_stores_that_move_it_most():
    rows = [row(k) for k in range(20)]
    rows += [row("big", predicted=900.0), row("low", predicted=1.0, usual=100.0)]
    message = judged(rows)["level"].message
    assert message.endswith("the stores that move it most: big (90.00), low (0.01), 0 (1.00)")
    assert "move it most" not in judged([row(k) for k in range(20)])["level"].message


def test_a_day_that_was_filled_in_ahead_is_said():
    table = pa.Table.from_pylist([row(1, through=YESTERDAY)], schema=RELEASE_SCHEMA)
    late = gates.judge(table, None, as_of=A, known={"1"}, limits=Gates(), undelivered=(A,))[1]
    assert not late.passed
    assert late.message == (
        "1 of 1 stores lack the sales of Tuesday 22 December 2026: nearly every open store has"
        " sales of 0 from Tuesday 22 December 2026 on"
    )
