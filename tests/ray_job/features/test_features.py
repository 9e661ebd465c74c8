from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_job.bucket.errors import InputError
from ray_job.data.panel import Panel
from ray_job.features import feature_names, features, features_at, features_for, summarise
from tests.support import panels

PANEL = panels.panel()
CONTEXT = panels.context(PANEL)
INPUTS = panels.inputs(PANEL, CONTEXT)
NAMES = feature_names(INPUTS)
AS_OF = PANEL.first_day + timedelta(days=199)
TARGETS = [AS_OF + timedelta(days=ahead) for ahead in range(1, INPUTS.horizon + 1)]


def matrix_of(panel, target=TARGETS[0], context=CONTEXT, inputs=INPUTS):
    return features(panel, AS_OF, target, context, inputs)


def value(matrix, name, row=0):
    return float(matrix[row, NAMES.index(name)])


def one_series(sales, *, opened=None, promo=None, ahead=14):
    """A panel whose last day is AS_OF."""
    days = len(sales)
    known = {}
    for name, values in (("open", opened), ("promo", promo)):
        if values is not None:
            known[name] = np.array([values], dtype=np.float32)
            assert known[name].shape[1] == days + ahead
    return Panel(
        store_ids=np.array(["s000"], dtype=object),
        item_ids=np.array([""], dtype=object),
        first_day=AS_OF - timedelta(days=days - 1),
        sales=np.array([sales], dtype=np.float64),
        known_ahead=known,
    )


def test_names_are_unique_and_fit_the_matrix():
    matrix = matrix_of(PANEL)
    assert len(set(NAMES)) == len(NAMES) == matrix.shape[1]
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous


def test_sales_after_the_as_of_change_nothing():
    rng = np.random.default_rng(3)
    column = PANEL.column(AS_OF) + 1
    sales = PANEL.sales.copy()
    sales[:, column:] = rng.uniform(0, 1e6, sales[:, column:].shape)
    changed = replace(PANEL, sales=sales)
    for target in TARGETS:
        assert matrix_of(changed, target).tobytes() == matrix_of(PANEL, target).tobytes()


@pytest.mark.parametrize("name", list(PANEL.known_ahead))
def test_known_ahead_columns_matter_within_the_reach_only(name):
    end = PANEL.column(AS_OF) + 1 + INPUTS.reach
    beyond, within = PANEL.known_ahead[name].copy(), PANEL.known_ahead[name].copy()
    beyond[:, end:] = 1 - np.nan_to_num(beyond[:, end:])
    within[:, end - INPUTS.reach + 7 : end] = 1 - np.nan_to_num(within[:, end - 7 : end])
    for values, same in ((beyond, True), (within, False)):
        changed = replace(PANEL, known_ahead={**PANEL.known_ahead, name: values})
        assert (
            matrix_of(changed, TARGETS[-1]).tobytes() == matrix_of(PANEL, TARGETS[-1]).tobytes()
        ) is same


@given(
    rows=st.lists(st.integers(0, 599), min_size=1, max_size=40),
    ahead=st.integers(1, 7),
)
@settings(max_examples=25, deadline=None)
def test_any_chunk_of_series_gives_the_same_bits(rows, ahead):
    target = AS_OF + timedelta(days=ahead)
    chosen = np.array(rows, dtype=np.int64)
    part = features_at(summarise(MANY.take(chosen).until(AS_OF), CONTEXT, INPUTS), target, CONTEXT)
    assert part.tobytes() == features_at(MANY_SUMMARY, target, CONTEXT)[chosen].tobytes()


MANY = panels.panel(stores=60, items=10, seed=8)
MANY_SUMMARY = summarise(MANY.until(AS_OF), CONTEXT, INPUTS)


def test_several_target_dates_give_the_bits_of_each_alone():
    together = features_for(MANY_SUMMARY, TARGETS, CONTEXT)
    for target, matrix in zip(TARGETS, together, strict=True):
        assert matrix.tobytes() == features_at(MANY_SUMMARY, target, CONTEXT).tobytes()


def test_days_before_the_window_change_no_bit_of_it():
    windowed = PANEL.window(AS_OF, 100, INPUTS.reach)
    copied = Panel(
        store_ids=windowed.store_ids,
        item_ids=windowed.item_ids,
        first_day=windowed.first_day,
        sales=windowed.sales.copy(),
        known_ahead={name: values.copy() for name, values in windowed.known_ahead.items()},
    )
    assert matrix_of(windowed).tobytes() == matrix_of(copied).tobytes()


def test_a_history_without_plans_context_or_store():
    panel = replace(PANEL, known_ahead={})
    context = panels.context(PANEL, weather=False, stores=False)
    inputs = panels.inputs(panel, context)
    matrix = matrix_of(panel, context=context, inputs=inputs)
    assert matrix.shape == (panel.n_series, len(feature_names(inputs)))
    assert np.isfinite(matrix[:, feature_names(inputs).index("baseline")]).all()


def test_columns_that_are_no_longer_delivered_are_unknown():
    panel = replace(PANEL, known_ahead={"open": PANEL.known_ahead["open"]})
    matrix = matrix_of(panel, context=panels.context(PANEL, weather=False, stores=False))
    for name in ("promo", "holiday", "store_size", "store_format", "weather_temperature"):
        assert np.isnan(matrix[:, NAMES.index(name)]).all()


def test_constant_sales_have_their_log_as_baseline_and_no_residuals():
    matrix = matrix_of(one_series([99.0] * 200))
    assert value(matrix, "baseline") == pytest.approx(np.log(100))
    assert value(matrix, "residual_last_6") == pytest.approx(0, abs=1e-6)
    assert value(matrix, "spread") == pytest.approx(0, abs=1e-6)
    assert value(matrix, "days_since_sales") == 1


def test_promotions_have_their_own_baseline():
    promo = [float((day // 7) % 2) for day in range(214)]
    sales = [199.0 if on else 99.0 for on in promo[:200]]
    matrix = matrix_of(one_series(sales, promo=promo))
    assert value(matrix, "promo") == promo[200]
    assert value(matrix, "baseline") == pytest.approx(np.log(200 if promo[200] else 100), abs=0.02)
    assert value(matrix, "promo_effect") == pytest.approx(np.log(2), abs=0.05)


def test_a_rare_day_without_sales_is_a_closed_day_a_frequent_one_is_not():
    rare = [50.0] * 200
    rare[-1] = 0.0
    assert value(matrix_of(one_series(rare)), "days_since_open") == 2
    often = [50.0, 0.0, 3.0, 0.0] * 50
    matrix = matrix_of(one_series(often))
    assert value(matrix, "days_since_open") == 1
    assert value(matrix, "share_without_sales") == pytest.approx(0.5)
    assert value(matrix, "residual_last_1") < -1


def test_returns_count_as_no_sales():
    sales = [50.0, -20.0] * 100
    assert (
        matrix_of(one_series(sales)).tobytes() == matrix_of(one_series([50.0, 0.0] * 100)).tobytes()
    )


def test_closures_around_the_target_date():
    opened = [1.0] * 214
    opened[197:200] = [0.0] * 3
    opened[205:212] = [0.0] * 7
    sales = [50.0 if state else 0.0 for state in opened[:200]]
    matrix = matrix_of(one_series(sales, opened=opened))
    assert value(matrix, "closed_days_before") == 3
    assert value(matrix, "closed_days_after") == 0
    assert value(matrix, "days_until_long_closure") == 5
    assert value(matrix, "days_since_open") == 4
    assert value(matrix, "days_since_sales") == 1


@pytest.mark.parametrize("days", [1, 2, 6, 7, 8, 30])
def test_a_short_history_is_a_history(days):
    for ahead in range(1, 8):
        matrix = matrix_of(one_series([99.0] * days), AS_OF + timedelta(days=ahead))
        assert value(matrix, "baseline") == pytest.approx(np.log(100))
        assert value(matrix, "history_days") == days
        assert value(matrix, "days_since_open") == ahead


def test_no_series_make_no_rows():
    empty = PANEL.take(np.array([], dtype=np.int64))
    assert matrix_of(empty).shape == (0, len(NAMES))


def test_late_sales_show_their_age():
    sales = [50.0] * 200
    sales[-3:] = [np.nan] * 3
    assert value(matrix_of(one_series(sales), TARGETS[1]), "days_since_sales") == 5


def test_a_series_that_never_sold_is_unknown():
    matrix = matrix_of(one_series([np.nan] * 200))
    assert np.isnan(value(matrix, "baseline"))
    assert np.isnan(value(matrix, "days_since_sales"))


def test_a_target_date_beyond_the_horizon_is_refused():
    for days in (0, 8):
        with pytest.raises(InputError, match="is not 1 to 7 days ahead"):
            matrix_of(PANEL, AS_OF + timedelta(days=days))


def test_means_of_sales_are_means_and_not_of_logs():
    sales = np.zeros(60)
    sales[::3] = 9.0  # a third of the days; the last one, day 59, has none
    matrix = matrix_of(one_series(sales))
    assert value(matrix, "mean_recent") == pytest.approx(np.log1p(3.0))
    assert value(matrix, "mean_last_3") == pytest.approx(0.0)
    assert value(matrix, "mean_last_7") == pytest.approx(np.log1p(18 / 7) - np.log1p(3.0))
    assert value(matrix, "share_without_sales_28") == pytest.approx(19 / 28)
    assert value(matrix, "days_since_sold") == 2
    assert value(matrix, "variation") == pytest.approx(np.sqrt(2))
    assert [value(matrix, f"lag_{k}") for k in (0, 2)] == [0.0, pytest.approx(np.log(10.0))]
    same_weekday = [sales[day] for day in range(60 - 7, -1, -7)][:4]
    assert value(matrix, "mean_same_weekday_4") == pytest.approx(
        np.log1p(np.mean(same_weekday)) - np.log1p(3.0)
    )


def test_single_days_are_features_by_amount_and_by_residual():
    sales = 10.0 + np.arange(60) % 13
    sales[60 - 14] = sales[57] = np.nan
    panel = one_series(sales)
    residuals = summarise(panel, CONTEXT, INPUTS).sales.residuals[0]
    for ahead in (1, 7):
        matrix = matrix_of(panel, AS_OF + timedelta(days=ahead))
        newest = 59 if ahead == 7 else 60 - 7
        for k in (1, 2, 3, 4):
            expected = np.log1p(sales[newest - 7 * (k - 1)])
            assert value(matrix, f"lag_weekday_{k}") == pytest.approx(expected, nan_ok=True)
        of_days = [value(matrix, f"lag_residual_{k}") for k in range(7)]
        assert of_days == pytest.approx(residuals[:-8:-1].tolist(), nan_ok=True)


def test_what_a_plan_has_meant_before():
    rng = np.random.default_rng(0)
    promo = (rng.random(74) < 0.3).astype(np.float32)
    price = np.where(np.arange(74) % 5 == 0, 1.0, 2.0).astype(np.float32)
    sales = 100.0 * np.where(price[:60] == 1.0, 3.0, 1.0)
    panel = one_series(sales, promo=promo)
    panel = replace(panel, known_ahead={**panel.known_ahead, "price": price[None, :]})
    inputs = panels.inputs(panel, CONTEXT)
    names = feature_names(inputs)
    for ahead in (1, 2):
        matrix = matrix_of(panel, TARGETS[ahead - 1], inputs=inputs)
        residual = matrix[0, names.index("residual_same_price")]
        relative = matrix[0, names.index("price_relative")]
        day = 59 + ahead
        usual = price[4:60].mean()
        assert relative == pytest.approx((price[day] - usual) / usual, rel=1e-5)
        assert (residual > 0.3) == (price[day] == 1.0)


def test_ids_have_codes_where_several_series_share_them():
    codes = INPUTS_OF_MANY.items
    assert set(codes) == set(MANY.item_ids)
    means = [np.nanmean(MANY.sales[MANY.item_ids == item]) for item in codes]
    assert means == sorted(means)
    names = feature_names(INPUTS_OF_MANY)
    matrix = features(MANY, AS_OF, TARGETS[0], CONTEXT, INPUTS_OF_MANY)
    assert [codes[int(code)] for code in matrix[:, names.index("item_code")]] == list(MANY.item_ids)
    unknown = replace(MANY, item_ids=np.array(["new"] * MANY.n_series, dtype=object))
    matrix = features(unknown, AS_OF, TARGETS[0], CONTEXT, INPUTS_OF_MANY)
    assert np.isnan(matrix[:, names.index("item_code")]).all()
    assert INPUTS.items == INPUTS.stores == ()  # each store is one series


INPUTS_OF_MANY = panels.inputs(MANY, CONTEXT)
