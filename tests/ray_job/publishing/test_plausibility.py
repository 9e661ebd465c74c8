"""Stores that are far off their own past: a table of three weeks of sales."""

from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from ray_job.publishing.plausibility import implausible, without_implausible
from ray_job.publishing.release_rows import combine

AS_OF = date(2026, 11, 27)
NAN = float("nan")
STEADY = np.array([100.0, 104, 98, 110, 95, 101, 0] * 3)


def weeks(*changes, sales=STEADY):
    """Three weeks up to the as-of; each change is (days ago, sales)."""
    changed = sales.copy()
    for ago, value in changes:
        changed[len(changed) - 1 - ago] = value
    return changed


@pytest.mark.parametrize(
    ("sold", "forecast", "expected"),
    [
        pytest.param(weeks(), 100, False, id="steady"),
        pytest.param(weeks((0, 10_000)), 400, True, id="100 times, today"),
        pytest.param(weeks((0, 1_000)), 180, True, id="10 times, today"),
        pytest.param(weeks((3, 10_000)), 400, True, id="three days ago"),
        pytest.param(weeks((0, 10_000)), 110, True, id="the forecast does not follow yet"),
        pytest.param(weeks((7, 10_000)), 110, False, id="a week ago, and nothing follows"),
        pytest.param(weeks((7, 10_000)), 180, True, id="a week ago, and the forecast follows"),
        pytest.param(weeks((0, 1_000)), 110, False, id="10 times, and nothing follows"),
        pytest.param(weeks((0, 500)), 400, False, id="5 times: a feast"),
        pytest.param(weeks(*((k, 10_000) for k in range(5))), 5000, True, id="five days"),
        pytest.param(weeks(*((k, 10_000) for k in range(6))), 5000, False, id="a new level"),
        pytest.param(weeks((0, 1)), 50, True, id="a hundredth"),
        pytest.param(weeks((0, 1)), 95, False, id="a hundredth that nothing follows"),
        pytest.param(weeks((0, 1)), 300, False, id="a hundredth, and more is forecast"),
        pytest.param(weeks((0, 10)), 50, False, id="a tenth: sales break down"),
        pytest.param(
            weeks(*((k, 1500) for k in (18, 19, 20))), 180, False, id="it was more before"
        ),
        pytest.param(weeks((0, 0)), 50, False, id="a day without sales"),
        pytest.param(weeks((0, NAN), (5, NAN), (6, 10_000)), 400, True, id="days are missing"),
        pytest.param(np.where(np.arange(21) < 12, NAN, 100.0), 900, False, id="a new store"),
        pytest.param(np.where(np.arange(21) % 3, 0.0, 5.0), 50, False, id="seldom sells"),
        pytest.param(
            weeks((0, 12), sales=np.array([1.0, 2, 1, 4, 1, 8, 1] * 3)), 8, False, id="wild"
        ),
        pytest.param(np.full(21, NAN), 10, False, id="nothing known"),
        pytest.param(np.zeros(21), 10, False, id="nothing sold"),
    ],
)
def test_a_store(sold, forecast, expected):
    predicted = np.array([[forecast, forecast, 0.0]])
    assert (0 in implausible(sold[None, :], predicted, AS_OF)) is expected


def test_only_that_store_and_the_sentence():
    sold = np.stack([STEADY, weeks((1, 10_100.0)), STEADY])
    reasons = implausible(sold, np.full((3, 7), 400.0), AS_OF)
    assert reasons == {
        1: "the sales of Thursday 26 November 2026 (10,100) are 100 times the usual (100.499 a day)"
    }


def test_a_store_that_is_closed_on_all_target_dates():
    assert implausible(weeks((0, 10_000))[None, :], np.zeros((1, 7)), AS_OF) == {}


def test_outcomes():
    empty = combine([])
    assert without_implausible(empty, AS_OF).equals(empty)
    rows = [
        {"store_id": name, "outcome": outcome, "predicted": predicted, "sold": sold}
        for name, outcome, predicted, sold in (
            ("a", "ok", [400.0] * 7, weeks((0, 10_000)).tolist()),
            ("b", "ok", [100.0] * 7, STEADY.tolist()),
            ("c", "failed", None, STEADY.tolist()),
            ("d", "no_data", None, None),
        )
    ]
    table = pa.Table.from_pylist(rows, schema=empty.schema)
    judged = without_implausible(table, AS_OF).to_pylist()
    assert [row["outcome"] for row in judged] == ["failed", "ok", "failed", "no_data"]
    assert [row["reason_code"] for row in judged] == ["implausible", None, None, None]
    assert "times the usual" in judged[0]["reason"]
