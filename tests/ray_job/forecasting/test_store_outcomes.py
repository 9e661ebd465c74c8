"""From predictions to rows and outcomes of stores; absurd predictions fail their store."""

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest

from ray_job.data.panel import Panel
from ray_job.forecasting.predict import CLOSED, ENDED, FALLBACK, MODEL, RULE, Predictions
from ray_job.forecasting.series_counts import series_by_kind
from ray_job.forecasting.store_outcomes import StoreOutcomes
from ray_job.plan import Basis

A = date(2026, 3, 28)
DAYS = 28
BASIS = Basis(A, 2, DAYS, "m", "c", "s", "x")
NAN = float("nan")


def outcomes_of(*series, stores=("s",), weeks=None):
    """Outcomes by store, and rows, of series (store, item, sales, predicted, methods[, promo]).

    `promo` is what is known of the two target dates.
    """
    n = len(series)
    sales = np.stack([np.broadcast_to(np.array(row[2], float), DAYS) for row in series])
    promo = np.zeros((n, DAYS + 2), np.float32)
    promo[:, DAYS:] = [row[5] if len(row) > 5 else (0, 0) for row in series]
    panel = Panel(
        store_ids=np.array([row[0] for row in series], dtype=object),
        item_ids=np.array([row[1] for row in series], dtype=object),
        first_day=BASIS.first_day,
        sales=np.ascontiguousarray(sales),
        known_ahead={"promo": promo},
    )
    predicted = np.array([row[3] for row in series], float)
    known = ~np.isnan(sales)
    newest = [np.flatnonzero(row)[-1] if row.any() else -1 for row in known]
    made = Predictions(
        target_dates=BASIS.target_dates,
        predicted=predicted,
        lower=predicted / 2,
        upper=predicted * 2,
        spread=np.full(predicted.shape, 0.1),
        method=np.array([row[4] for row in series], dtype=np.int8),
        weather_missing=np.zeros(predicted.shape, dtype=bool),
        closed_weeks=np.zeros(predicted.shape, dtype=np.int64) if weeks is None else weeks,
        closed_sales=np.zeros(predicted.shape, dtype=np.int64),
        kinds=np.arange(n) % 3,
        known_through=np.array(
            [
                np.datetime64("NaT", "D")
                if k < 0
                else np.datetime64(BASIS.first_day) + np.timedelta64(k, "D")
                for k in newest
            ],
            dtype="datetime64[D]",
        ),
    )
    store_outcomes = StoreOutcomes(stores, BASIS, "m1")
    store_outcomes.add(panel, made)
    output = store_outcomes.output()
    return {row["store_id"]: row for row in output.outcomes.to_pylist()}, output.rows


def test_items_add_up():
    outcomes, rows = outcomes_of(
        ("s", "a", 10, [10, 20], [MODEL, MODEL]), ("s", "b", 5, [5, 0], [FALLBACK, CLOSED])
    )
    row = outcomes["s"]
    assert (row["outcome"], row["items"], row["first_row"], row["rows"]) == ("ok", 2, 0, 4)
    assert row["predicted"] == [15.0, 20.0]
    assert row["method"] == ["model", "model"]
    assert row["usual"] == [15.0, 10.0]  # the second item is closed on the second day
    assert (row["observations"], row["data_through"]) == (2 * DAYS, A)
    assert set(row["sold"]) == {15.0}
    assert rows["item_id"].to_pylist() == ["a", "a", "b", "b"]


@pytest.mark.parametrize(
    ("methods", "outcome"),
    [
        ([MODEL, CLOSED], "ok"),
        ([FALLBACK, CLOSED], "fallback"),
        ([CLOSED, CLOSED], "closed"),
    ],
)
def test_outcomes(methods, outcome):
    outcomes, _ = outcomes_of(("s", "", 10, [1, 0], methods))
    assert outcomes["s"]["outcome"] == outcome
    assert (outcomes["s"]["reason_code"] == "little_history") is (outcome == "fallback")


@pytest.mark.parametrize("value", [NAN, float("inf"), -1.0, 1001.0])
def test_an_absurd_prediction_fails_its_store_only(value):
    outcomes, rows = outcomes_of(
        ("r", "", 10, [10, 10], [MODEL, MODEL]),
        ("s", "a", 10, [10, value], [MODEL, MODEL]),
        ("s", "b", 10, [10, 10], [MODEL, MODEL]),
        ("t", "", 10, [10, 1000.0], [MODEL, MODEL]),
        stores=("r", "s", "t"),
    )
    assert [row["outcome"] for row in outcomes.values()] == ["ok", "failed", "ok"]
    assert outcomes["s"]["reason_code"] == "absurd"
    assert outcomes["s"]["reason"].endswith(f"for item 'a' on {A + timedelta(days=2)}")
    assert (outcomes["s"]["rows"], outcomes["s"]["predicted"]) == (None, None)
    assert rows["store_id"].to_pylist() == ["r", "r", "t", "t"]
    assert (outcomes["t"]["first_row"], outcomes["t"]["rows"]) == (2, 2)


def test_nothing_is_known():
    """A store without sales on any open day has no data, which is no failure of the model."""
    outcomes, rows = outcomes_of(
        ("r", "", NAN, [5, 5], [FALLBACK, FALLBACK]),
        ("s", "", 0, [NAN, 0], [FALLBACK, CLOSED]),
        stores=("q", "r", "s"),
    )
    assert [row["outcome"] for row in outcomes.values()] == ["no_data"] * 3
    assert outcomes["s"]["reason"].startswith("no sales are known of any open day from 2026-03-01")
    assert rows.num_rows == 0


def test_missing_columns_are_named_by_day():
    outcomes, _ = outcomes_of(
        ("s", "a", 10, [1, 1], [MODEL, MODEL], (1, 1)),
        ("s", "b", 10, [1, 1], [MODEL, MODEL], (1, NAN)),
    )
    assert outcomes["s"]["missing"] == ["", "promo"]


def test_a_closed_weekday_is_a_reason_and_the_outcome_stays():
    weeks = np.array([[0, 9], [0, 9]])
    outcomes, _ = outcomes_of(
        ("s", "a", 10, [10, 0], [MODEL, CLOSED]),
        ("s", "b", 10, [10, 0], [MODEL, CLOSED]),
        weeks=weeks,
    )
    row = outcomes["s"]
    assert (row["outcome"], row["reason_code"]) == ("ok", "closed_weekday")
    assert row["reason"] == "no sales on Mondays for 9 weeks"
    assert row["usual"] == [20.0, 0.0]


def test_an_ended_item_is_a_row_of_0_beside_the_others():
    outcomes, rows = outcomes_of(
        ("s", "a", 10, [10, 10], [MODEL, MODEL]), ("s", "b", 10, [0, 0], [ENDED, ENDED])
    )
    row = outcomes["s"]
    assert (row["outcome"], row["reason_code"], row["predicted"]) == ("ok", None, [10.0, 10.0])
    assert row["method"] == ["model", "model"]
    assert row["usual"] == [10.0, 10.0]
    assert rows["method"].to_pylist() == ["model", "model", "ended", "ended"]


@pytest.mark.parametrize(
    ("newest", "usual"),
    [(10.0, 10.0), (80.0, 27.5), (1000.0, 10.0), (0.1, 7.525), (0.0, 10.0), (NAN, 10.0)],
)
def test_one_mistyped_day_does_not_move_what_is_usual(newest, usual):
    sales = np.full(DAYS, 10.0)
    sales[-7] = newest  # the weekday of the first target date
    outcomes, _ = outcomes_of(("s", "", sales, [10, 10], [MODEL, MODEL]))
    assert outcomes["s"]["usual"] == [pytest.approx(usual), 10.0]


def test_series_are_counted_by_kind_and_method():
    """The series are smooth, intermittent, short, and again."""
    outcomes, _ = outcomes_of(
        ("s", "a", 10, [10, 10], [MODEL, CLOSED]),
        ("s", "b", 5, [5, 5], [RULE, RULE]),
        ("s", "c", 5, [5, 5], [FALLBACK, MODEL]),
        ("t", "a", 5, [0, 0], [CLOSED, CLOSED]),
        ("t", "b", NAN, [NAN, NAN], [FALLBACK, FALLBACK]),
        stores=("s", "t"),
    )
    assert outcomes["s"]["outcome"] == "ok"
    assert outcomes["s"]["method"] == ["model", "model"]
    tables = [
        pa.table({"series": pa.array([outcomes[store]["series"]], pa.list_(pa.int32()))})
        for store in ("s", "t")
    ]
    without = pa.table({"series": pa.array([None], pa.list_(pa.int32()))})
    assert series_by_kind([*tables, without]) == {
        "smooth": {"model": 1, "closed": 1},
        "intermittent": {"rule": 1},
        "short": {"model": 1},
    }
