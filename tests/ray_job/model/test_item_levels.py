from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from ray_job.forecasting.predict import CLOSED, FALLBACK, SIMILAR, predict_days
from ray_job.model.examples import scored
from ray_job.model.item_levels import ItemLevels, item_levels
from ray_job.model.model import Model
from ray_job.settings import Run, Settings
from tests.support import panels

PANEL = panels.panel(stores=6, items=5, days=150)
CONTEXT = panels.context(PANEL)
AS_OF = PANEL.first_day + timedelta(days=139)
TARGETS = [AS_OF + timedelta(days=ahead) for ahead in range(1, 8)]
SETTINGS = Settings(
    training={"rows": 2000, "trees": 8, "leaves": 15, "calibration_days": 28}, lookback_days=120
)


def of_product(stores, items, noise=0.0, seed=0):
    """Poisson sales of a product of levels of stores and items, half as much on Mondays."""
    rng = np.random.default_rng(seed)
    base = panels.panel(stores=len(stores), items=len(items), days=90)
    weekday = (base.first_day.weekday() + np.arange(90)) % 7
    mean = np.outer(np.outer(stores, items).ravel(), np.where(weekday == 0, 0.5, 1.0))
    mean *= np.exp(rng.normal(0, noise, (len(mean), 1)))
    return replace(base, sales=rng.poisson(mean).astype(np.float64), known_ahead={})


def levels_of(panel):
    return item_levels(panel, scored(panel))


def test_levels_are_those_of_the_product():
    levels = levels_of(of_product([1.0, 2.0, 4.0], [3.0, 30.0, 90.0]))
    assert list(levels.stores) == ["s000", "s001", "s002"]
    assert list(levels.items) == ["i000", "i001", "i002"]
    for store, size in zip(levels.stores, (1.0, 2.0, 4.0), strict=True):
        for item, level in zip(levels.items, (3.0, 30.0, 90.0), strict=True):
            usual = levels.usual(store, item)
            assert usual[1] == pytest.approx(size * level * 7 / 6.5 * 13 / 14, rel=0.1)
            assert usual[0] == pytest.approx(usual[1] / 2, rel=0.1)
    # An item that no store knows is a usual one; a store without a level is a usual one.
    assert levels.usual("s002", "new")[1] == pytest.approx(2 * levels.usual("s001", "i001")[1], 0.1)
    assert levels.usual("new", "i001") == pytest.approx(levels.usual("s001", "i001"))


def test_the_less_the_stores_agree_the_less_an_item_is_known():
    between = [
        levels_of(of_product([1.0] * 8, [20.0] * 6, noise)).between for noise in (0.0, 0.5, 1.5)
    ]
    assert between == sorted(between)
    assert between[0] == 0.02
    assert between[2] > 0.5


@pytest.mark.parametrize(
    "panel",
    [
        panels.panel(stores=3, days=90),
        replace(panels.panel(stores=2, items=2, days=90), sales=np.full((4, 90), np.nan)),
        replace(panels.panel(stores=2, items=2, days=90), sales=np.zeros((4, 90))),
        panels.panel(stores=2, items=2, days=20),
    ],
    ids=["no items", "nothing known", "nothing sold", "few days"],
)
def test_without_items_that_sell_there_are_no_levels(panel):
    assert levels_of(panel) == ItemLevels()


@pytest.fixture(scope="module")
def model():
    return panels.fitted_model(PANEL, CONTEXT, SETTINGS, AS_OF)


NEW = {2: 0, 8: 3, 13: 27}
"""Rows of the panel that are new, with the number of their known days."""


def with_new_items(panel=PANEL, of=NEW, ids=None):
    sales = panel.sales[:, :140].copy()
    for row, days in of.items():
        sales[row, : 140 - days] = np.nan
    items = panel.item_ids.copy()
    for row, name in (ids or {}).items():
        items[row] = name
    return replace(panel.until(AS_OF, AS_OF + timedelta(days=14)), sales=sales, item_ids=items)


def predicted(panel, model, settings=SETTINGS):
    return predict_days(panel, AS_OF, TARGETS, CONTEXT, model, settings)


def test_new_items_of_old_stores_are_forecast_by_similar_ones(model):
    made = predicted(with_new_items(), model)
    opened = made.method[list(NEW)] != CLOSED
    assert opened.sum() > 12
    assert (made.method[list(NEW)][opened] == SIMILAR).all()
    others = np.setdiff1d(np.arange(PANEL.n_series), list(NEW))
    whole = predicted(PANEL, model)
    assert made.predicted[others].tobytes() == whole.predicted[others].tobytes()
    assert not (made.method[others] == SIMILAR).any()
    new = made.predicted[list(NEW)][opened]
    assert (new > 0).all()
    assert (made.lower[list(NEW)][opened] < new).all()
    assert (made.upper[list(NEW)][opened] > new).all()


def test_a_forecast_of_a_new_item_does_not_depend_on_the_other_series(model):
    panel = with_new_items(ids={8: "unheard of"})
    made = predicted(panel, model)
    for rows in ([2], [8], [1, 8], [2, 13]):
        alone = predicted(panel.take(np.array(rows)), model)
        assert alone.predicted.tobytes() == made.predicted[rows].tobytes()
        assert alone.upper.tobytes() == made.upper[rows].tobytes()
        assert (alone.method == made.method[rows]).all()


def test_its_own_level_takes_over(model):
    usual = predicted(with_new_items(), model).predicted[2].max()
    sales = []
    for days in (3, 7, 20):
        panel = with_new_items(of={2: days})
        panel.sales[2, -days:] = np.where(panel.sales[2, -days:] > 0, 50 * usual, 0.0)
        sales.append(float(predicted(panel, model).predicted[2].max()))
    assert 5 * usual < min(sales)
    assert 30 * usual < sales[-1]


@pytest.mark.parametrize(
    ("settings", "levels"),
    [
        (SETTINGS.model_copy(update={"run": Run(similar_stores=False)}), None),
        (SETTINGS, ItemLevels()),
    ],
    ids=["turned off", "a model without levels"],
)
def test_without_levels_the_simple_rule_is_left(model, settings, levels):
    if levels is not None:
        description = model.description.model_copy(update={"item_levels": levels})
        model = Model.of(model.regressor, description)
    made = predicted(with_new_items(), model, settings)
    assert not (made.method == SIMILAR).any()
    assert (made.method[8] == FALLBACK).any()


def test_an_item_that_is_late_is_not_new(model):
    sales = PANEL.sales[:, :140].copy()
    sales[4, 90:] = np.nan
    panel = replace(PANEL.until(AS_OF, AS_OF + timedelta(days=14)), sales=sales)
    assert not (predicted(panel, model).method[4] == SIMILAR).any()
