from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_job.model.calibration import calibrate
from ray_job.model.intervals import (
    Calibration,
    interval_terms,
    series_spread,
    total_interval,
)

CALIBRATION = Calibration(
    usual_spread=0.2, exponent=0.5, lower=(-1.0, -1.1, -1.3), upper=(1.0, 1.2, 1.4)
)
sizes = st.floats(0, 1e6)
spreads = st.floats(0.01, 3)
days = st.integers(1, 30)


def array(*values):
    return np.array(values, dtype=np.float64)


@given(sizes, spreads, days)
def test_an_interval_holds_its_prediction_and_is_not_negative(size, spread, ahead):
    scale = CALIBRATION.scale(array(spread))
    low, high = CALIBRATION.interval(array(size), scale, array(ahead))
    assert 0 <= low[0] <= size <= high[0]


@given(sizes, spreads, spreads, days, days)
def test_more_spread_and_more_days_never_make_it_narrower(size, spread, other, ahead, later):
    narrow = CALIBRATION.interval(
        array(size), CALIBRATION.scale(array(min(spread, other))), array(min(ahead, later))
    )
    wide = CALIBRATION.interval(
        array(size), CALIBRATION.scale(array(max(spread, other))), array(max(ahead, later))
    )
    assert wide[0][0] <= narrow[0][0]
    assert narrow[1][0] <= wide[1][0]


@given(sizes, spreads, days)
def test_the_total_of_one_item_has_the_item_s_interval(size, spread, ahead):
    calibration = CALIBRATION.model_copy(update={"total_lower": 0.5, "total_upper": 2.0})
    item = calibration.interval(array(size), array(spread), array(ahead))
    total = total_interval(*interval_terms(array(size), array(spread)), array(ahead), calibration)
    assert total[0] == pytest.approx(item[0] if size else array(0), rel=1e-9, abs=1e-9)
    assert total[1] == pytest.approx(item[1] if size else array(0), rel=1e-9, abs=1e-9)


def test_totals_add_up_however_the_items_are_cut():
    rng = np.random.default_rng(0)
    terms = np.array(interval_terms(rng.uniform(0, 9, 1000), rng.uniform(0.1, 1, 1000)))
    whole = total_interval(*terms.sum(axis=1), array(1.0), CALIBRATION)
    parts = total_interval(
        *(terms[:, :300].sum(axis=1) + terms[:, 300:].sum(axis=1)), array(1.0), CALIBRATION
    )
    assert np.array(whole) == pytest.approx(np.array(parts))


def test_items_that_err_apart_make_a_narrower_total():
    sums = [term.sum() for term in interval_terms(np.full(100, 50.0), np.full(100, 0.3))]
    together = CALIBRATION.model_copy(update={"correlation": 1.0})
    apart = CALIBRATION.model_copy(update={"correlation": 0.0})
    wide = total_interval(*sums, array(1.0), together)
    narrow = total_interval(*sums, array(1.0), apart)
    assert wide[0] < narrow[0] < 5000 < narrow[1] < wide[1]
    assert np.log((1 + narrow[1]) / 5001) == pytest.approx(
        0.1 * np.log((1 + wide[1]) / 5001), rel=0.1
    )


def test_rows_without_prediction_add_nothing_to_a_total():
    assert not np.any(interval_terms(array(np.nan, 0.0), array(np.nan, 0.0)))


def held_out(stores, items, rng, *, common=0.1, own=0.3, mean=200.0, forecasts=60):
    """Errors of known make-up: (actual, predicted, spread, days ahead, number of the total)."""
    shape = (forecasts, stores, items)
    errors = rng.normal(0, common, (forecasts, stores, 1)) + rng.normal(0, own, shape)
    predicted = rng.uniform(0.5, 1.5, shape) * mean
    totals = np.arange(forecasts * stores).reshape(forecasts, stores, 1) + np.zeros(shape)
    ahead = (np.arange(forecasts) % 3 + 1).reshape(-1, 1, 1) + np.zeros(shape)
    return (
        (np.expm1(np.log1p(predicted) + errors)).ravel(),
        predicted.ravel(),
        np.full(predicted.size, 0.25),
        ahead.ravel().astype(np.int64),
        (
            np.arange(stores * items).reshape(1, stores, items) + np.zeros(shape, dtype=np.int64)
        ).ravel(),
        totals.ravel().astype(np.int64),
    )


def test_calibrated_intervals_cover_four_fifths_of_items_and_of_totals():
    rng = np.random.default_rng(2)
    calibration = calibrate(*held_out(20, 30, rng))
    actual, predicted, spread, ahead, _, totals = held_out(20, 30, rng)
    scale = calibration.scale(spread)
    low, high = calibration.interval(predicted, scale, ahead.astype(np.float64))
    assert np.mean((low <= actual) & (actual <= high)) == pytest.approx(0.8, abs=0.02)
    sums = [np.bincount(totals, weights=term) for term in interval_terms(predicted, scale)]
    days_of_total = np.zeros(len(sums[0]))
    days_of_total[totals] = ahead
    low, high = total_interval(*sums, days_of_total, calibration)
    sold = np.bincount(totals, weights=actual)
    assert np.mean((low <= sold) & (sold <= high)) == pytest.approx(0.8, abs=0.04)


def test_spread_is_followed_as_far_as_it_tells_something():
    rng = np.random.default_rng(3)
    series = rng.integers(0, 40, 8000)
    spread = np.where(series % 2, 0.1, 0.4)
    predicted = np.full(8000, 300.0)
    ahead = np.ones(8000, dtype=np.int64)
    totals = np.arange(8000)
    for noise, exponent in ((spread, 1.0), (np.full(8000, 0.2), 0.0)):
        actual = np.expm1(np.log1p(predicted) + rng.normal(0, 1, 8000) * noise)
        assert calibrate(actual, predicted, spread, ahead, series, totals).exponent == exponent


def counts(rng, rows=40_000):
    """Sales of Poisson with known means: (arguments of `calibrate`, kinds)."""
    mean = np.exp(rng.uniform(np.log(0.1), np.log(60.0), rows))
    actual = rng.poisson(mean).astype(np.float64)
    arange = np.arange(rows)
    kinds = (mean < 2).astype(np.int64)
    return (
        actual,
        mean,
        1.0 / np.sqrt(1.0 + mean),
        np.ones(rows, dtype=np.int64),
        arange % 500,
        arange,
        kinds,
    )


def test_counts_have_bounds_that_can_occur_and_each_kind_and_size_is_covered():
    calibration = calibrate(*counts(np.random.default_rng(5)))
    actual, mean, spread, ahead, _, _, kinds = counts(np.random.default_rng(6))
    assert calibration.counts
    scale = calibration.scale_of_kind(spread, mean, kinds)
    low, high = calibration.interval(mean, scale, ahead.astype(np.float64))
    assert (low == np.round(low)).all()
    assert (high == np.round(high)).all()
    assert (low <= high).all()
    inside = (low <= actual) & (actual <= high)
    for kind in (0, 1):
        assert inside[kinds == kind].mean() > 0.78
    assert inside[kinds == 0].mean() < 0.84
    for least, most in ((0.25, 0.5), (1.0, 2.0), (8.0, 16.0)):
        assert inside[(mean >= least) & (mean < most)].mean() > 0.77


def test_sales_that_are_no_counts_have_bounds_that_are_none():
    actual, *others = counts(np.random.default_rng(7))
    assert not calibrate(actual * 1.01, *others).counts


def test_kinds_that_err_differently_have_widths_of_their_own():
    rng = np.random.default_rng(8)
    rows = 20_000
    kinds = np.arange(rows) % 2
    predicted = np.full(rows, 300.0)
    actual = np.expm1(np.log1p(predicted) + rng.normal(0, 0.1, rows) * (1 + 2 * kinds))
    arange = np.arange(rows)
    calibration = calibrate(
        actual,
        predicted,
        np.full(rows, 0.2),
        np.ones(rows, dtype=np.int64),
        arange % 50,
        arange,
        kinds,
    )
    scale = calibration.scale_of_kind(np.full(rows, 0.2), predicted, kinds)
    low, high = calibration.interval(predicted, scale, np.ones(rows))
    for kind in (0, 1):
        inside = ((low <= actual) & (actual <= high))[kinds == kind]
        assert inside.mean() == pytest.approx(0.8, abs=0.01)


def test_an_unknown_spread_is_the_usual_one():
    assert CALIBRATION.scale(array(np.nan)) == pytest.approx([0.2])


@pytest.mark.parametrize(
    ("recent", "whole", "spread"),
    [(0.1, 0.4, 0.2), (0.3, np.nan, 0.3), (np.nan, 0.3, 0.3), (0.0, 0.3, 0.0)],
)
def test_a_series_spread_lies_between_its_last_days_and_its_whole_history(recent, whole, spread):
    assert series_spread(array(recent), array(whole))[0] == pytest.approx(spread)


def test_a_series_without_history_has_no_spread():
    assert np.isnan(series_spread(array(np.nan), array(np.nan)))[0]


def test_spread_that_tells_hardly_anything_is_not_followed():
    """Within the standard error of the least unevenness the least exponent is taken."""
    rng = np.random.default_rng(5)
    series = np.repeat(np.arange(60), 50)
    spread = rng.uniform(0.15, 0.25, 60)[series]
    predicted = np.full(3000, 300.0)
    actual = np.expm1(np.log1p(predicted) + rng.normal(0, 0.2, 3000))
    ahead, totals = np.ones(3000, dtype=np.int64), np.arange(3000)
    assert calibrate(actual, predicted, spread, ahead, series, totals).exponent == 0.0
