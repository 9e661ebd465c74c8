"""Adaptive intervals: their coverage comes to 80 %, whatever the sales do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_job.bucket.widths import CALIBRATED, SMALL, IntervalWidths, SideFactors
from ray_job.model.adaptive import (
    NARROWEST,
    WIDEST,
    DayOfScores,
    adapted,
    after_day,
    by_days_ahead,
    calibrated_bounds,
    of_series,
    of_totals,
    widen,
)
from ray_job.model.intervals import Calibration, interval_terms

HORIZON = 3
NORMAL = 1.2816
"""80 % of a normal distribution lie within so many standard deviations."""
MONEY, COUNTS = Calibration(), Calibration(counts=True)
ROUNDED_UP_TO = 1000
sizes = st.floats(0, 1e6)
factors = st.floats(NARROWEST, WIDEST)


def array(*values):
    return np.array(values, dtype=np.float64)


def scored_day(rng, stores=400, spread=0.1, ahead=1, shift=0.0, calibrated=0.1):
    """Sales with this spread of their logs, and intervals that were calibrated for another one."""
    predicted = rng.uniform(50, 5000, stores)
    return DayOfScores(
        days_ahead=np.full(stores, ahead),
        actual=np.expm1(np.log1p(predicted) + shift + rng.normal(0, spread, stores)),
        predicted=predicted,
        lower=np.expm1(np.log1p(predicted) - NORMAL * calibrated),
        upper=np.expm1(np.log1p(predicted) + NORMAL * calibrated),
        is_total=np.zeros(stores, dtype=np.bool_),
    )


def joined(*days):
    names = ("days_ahead", "actual", "predicted", "lower", "upper", "is_total")
    return DayOfScores(*(np.concatenate([getattr(day, name) for day in days]) for name in names))


def coverage(widths, day):
    side = of_series(day.predicted, widths, day.days_ahead)
    low, high = widen(day.predicted, day.lower, day.upper, side)
    return float(((day.actual >= low) & (day.actual <= high)).mean())


def track(days, widths=CALIBRATED):
    """The widths after the days, and the coverage of each day by the widths before it."""
    covered = []
    for day in days:
        covered.append(coverage(widths, day))
        widths = after_day(widths, day, HORIZON)
    return widths, covered


@given(sizes, st.floats(0, 2), st.floats(0, 2), factors, factors)
def test_a_wider_interval_holds_the_narrower_one_and_the_forecast(
    size, below, above, first, second
):
    log = np.log1p(size)
    low, high = max(0.0, np.expm1(log - below)), np.expm1(log + above)
    bounds = [
        widen(array(size), array(low), array(high), array([factor], [factor]))
        for factor in sorted((first, second))
    ]
    (narrow_low, narrow_high), (wide_low, wide_high) = bounds
    slack = 1e-9 * (1 + size)
    assert 0 <= wide_low[0] <= narrow_low[0] + slack
    assert narrow_low[0] <= size + slack
    assert size - slack <= narrow_high[0] <= wide_high[0] + slack


@given(sizes, st.floats(0, 2), st.floats(0, 2))
def test_factors_of_one_keep_every_bit(size, below, above):
    bounds = array(max(0.0, np.expm1(np.log1p(size) - below))), array(size * (1 + above))
    assert widen(array(size), *bounds, np.ones((2, 1))) == bounds


@given(st.floats(1, 1e6), st.floats(0.01, 0.2), factors, factors)
def test_the_calibrated_bounds_come_back(size, spread, low_factor, high_factor):
    log = np.log1p(size)
    bounds = array(np.expm1(log - spread)), array(np.expm1(log + spread))
    sides = array([low_factor], [high_factor])
    served = adapted(array(size), *bounds, sides, MONEY)
    back = calibrated_bounds(array(size), *served, sides, MONEY)
    assert back[0] == pytest.approx(bounds[0], rel=1e-9)
    assert back[1] == pytest.approx(bounds[1], rel=1e-9)


@pytest.mark.parametrize(
    ("spread", "shift"), [(0.05, 0.0), (0.15, 0.0), (0.2, 0.0), (0.1, 0.12), (0.1, -0.12)]
)
def test_the_coverage_comes_to_80_percent(spread, shift):
    rng = np.random.default_rng(1)
    days = [scored_day(rng, spread=spread, shift=shift) for _ in range(60)]
    before = np.mean([coverage(CALIBRATED, day) for day in days])
    _, covered = track(days)
    assert abs(before - 0.8) > 0.06
    assert abs(np.mean(covered) - 0.8) < 0.7 * abs(before - 0.8)
    assert np.mean(covered[-20:]) == pytest.approx(0.8, abs=0.03)


def test_right_intervals_stay_as_they_are():
    rng = np.random.default_rng(2)
    widths, covered = track([scored_day(rng) for _ in range(60)])
    assert by_days_ahead(widths.series, 1) == pytest.approx(1.0, abs=0.12)
    assert np.mean(covered) == pytest.approx(0.8, abs=0.015)


@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(-1, 1)), min_size=5, max_size=25))
def test_the_factors_are_bounded_whatever_is_sold(days):
    rng = np.random.default_rng(3)
    widths, _ = track([scored_day(rng, 20, spread, 1, shift) for spread, shift in days])
    values = by_days_ahead(widths.series, HORIZON)
    assert (values >= NARROWEST).all()
    assert (values <= WIDEST).all()


def test_the_order_of_the_rows_does_not_matter():
    rng = np.random.default_rng(4)
    day = joined(scored_day(rng, 50, 0.3), scored_day(rng, 80, 0.2, 3))
    order = rng.permutation(len(day.actual))
    names = ("days_ahead", "actual", "predicted", "lower", "upper", "is_total")
    mixed = DayOfScores(*(getattr(day, name)[order] for name in names))
    assert after_day(CALIBRATED, mixed, HORIZON) == after_day(CALIBRATED, day, HORIZON)


def test_a_number_of_days_ahead_without_scores_follows_the_others():
    rng = np.random.default_rng(5)
    widths = after_day(CALIBRATED, scored_day(rng, spread=0.3), HORIZON)
    assert widths.series.upper[0] > 1.01
    assert set(widths.series.upper) == {widths.series.upper[0]}


def test_few_stores_move_the_widths_less():
    rng = np.random.default_rng(6)
    steps = [
        after_day(CALIBRATED, scored_day(rng, stores, 1.5), 1).series.upper[0] - 1
        for stores in (3, 30, 3000)
    ]
    assert 0 < steps[0] < steps[1] < steps[2]


def test_totals_have_factors_of_their_own():
    rng = np.random.default_rng(7)
    wrong = scored_day(rng, spread=0.4)
    totals = DayOfScores(
        wrong.days_ahead,
        wrong.actual,
        wrong.predicted,
        wrong.lower,
        wrong.upper,
        np.ones(len(wrong.actual), dtype=np.bool_),
    )
    widths = after_day(CALIBRATED, totals, HORIZON)
    assert widths.series == CALIBRATED.series
    assert widths.totals.upper[0] > 1.01
    assert not widths.is_neutral


def test_forecasts_of_zero_and_unknown_sales_count_nothing():
    nothing = DayOfScores(
        np.array([1, 1]),
        array(5.0, np.nan),
        array(0.0, 9.0),
        array(0.0, 5.0),
        array(0.0, 12.0),
        np.zeros(2, dtype=np.bool_),
    )
    assert after_day(CALIBRATED, nothing, HORIZON) is not None
    assert after_day(CALIBRATED, nothing, HORIZON).is_neutral


def test_a_lower_bound_of_zero_leaves_its_misses_to_the_upper_side():
    rng = np.random.default_rng(8)
    days = []
    for _ in range(80):
        predicted = np.full(300, 0.8)
        days.append(
            DayOfScores(
                np.ones(300, dtype=np.int64),
                rng.poisson(0.8, 300).astype(np.float64),
                predicted,
                np.zeros(300),
                np.full(300, 1.4),
                np.zeros(300, dtype=np.bool_),
            )
        )
    widths, covered = track(days)
    assert np.mean(covered[20:]) == pytest.approx(0.8, abs=0.1)
    assert widths.of_small.lower == (1.0,) * HORIZON
    assert widths.series == CALIBRATED.series


def test_the_total_of_a_single_item_has_its_factors():
    widths = IntervalWidths(
        series=SideFactors(lower=(0.9, 0.8), upper=(1.1, 1.2)),
        totals=SideFactors(lower=(2.0, 2.0), upper=(3.0, 3.0)),
    )
    _, wide, squared = interval_terms(array([5.0, 5.0], [5.0, 5.0]), array([0.3, 0.3], [0.3, 0.3]))
    sums = np.stack([wide[0], wide[0] + wide[1]]), np.stack([squared[0], squared[0] + squared[1]])
    lower, upper = of_totals(array([5.0, 5.0], [10.0, 10.0]), *sums, widths)
    assert lower.tolist() == [[0.9, 0.8], [2.0, 2.0]]
    assert upper.tolist() == [[1.1, 1.2], [3.0, 3.0]]


@given(st.floats(0.01, 100), st.integers(0, 100), st.integers(0, 50), factors)
def test_bounds_of_counts_widen_step_by_step(size, below, above, factor):
    bounds = array(max(0.0, np.floor(size) - below)), array(np.ceil(size) + above)
    assert adapted(array(size), *bounds, np.ones((2, 1)), COUNTS) == bounds
    low, high = adapted(array(size), *bounds, np.full((2, 1), factor), COUNTS)
    if high[0] <= ROUNDED_UP_TO:
        assert (low[0], high[0]) == (np.round(low[0]), np.round(high[0]))
    if factor >= 1:
        assert low[0] <= bounds[0][0]
        assert high[0] >= bounds[1][0]
    else:
        assert low[0] >= bounds[0][0]
        assert high[0] <= bounds[1][0]


def test_a_factor_just_below_1_takes_no_count_away():
    bounds = array(2.0, 8.0), array(4.0, 14.0)
    low, high = adapted(array(3.0, 11.0), *bounds, np.full((2, 1), 0.99), COUNTS)
    assert low.tolist() == [2.0, 8.0]
    assert high.tolist() == [4.0, 14.0]
    # The wide one gets narrower by a count on each side, the narrow one stays.
    low, high = adapted(array(3.0, 11.0), *bounds, np.full((2, 1), 0.75), COUNTS)
    assert (low.tolist(), high.tolist()) == ([2.0, 9.0], [4.0, 13.0])


def test_what_is_forecast_as_nothing_keeps_its_bounds():
    bounds = array(0.0), array(0.0)
    assert adapted(array(0.0), *bounds, np.full((2, 1), 3.0), COUNTS) == bounds


def test_small_forecasts_do_not_move_the_widths_of_others():
    rng = np.random.default_rng(9)
    plain = [scored_day(rng) for _ in range(20)]
    small = DayOfScores(
        np.ones(900, dtype=np.int64),
        np.zeros(900),
        np.full(900, 0.2),
        np.zeros(900),
        np.full(900, 1.5),
        np.zeros(900, dtype=np.bool_),
    )
    alone, _ = track(plain)
    beside, _ = track([joined(day, small) for day in plain])
    assert beside.series == alone.series
    assert beside.of_small.upper[0] < 0.9
    assert of_series(array(SMALL, 0.2), beside, np.ones(2, dtype=np.int64))[1].tolist() == [
        beside.series.upper[0],
        beside.of_small.upper[0],
    ]


def test_small_forecasts_go_on_from_the_widths_of_an_earlier_version():
    rng = np.random.default_rng(10)
    earlier = IntervalWidths(series=SideFactors(lower=(0.9,), upper=(1.3,)), days=9)
    assert earlier.of_small == earlier.series
    assert of_series(array(0.2), earlier, np.ones(1, dtype=np.int64)).tolist() == [[0.9], [1.3]]
    after = after_day(earlier, scored_day(rng), HORIZON)
    assert after.small == earlier.series
