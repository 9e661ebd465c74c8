"""Every value that is computed for a feature has a name: without one it would be left out."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from ray_job.features import summarise
from ray_job.features.ahead import (
    CALENDAR,
    ahead_features,
    ahead_names,
    calendar_features,
    store_features,
    store_names,
    weather_features,
    weather_names,
)
from ray_job.features.past import PER_AS_OF, PER_TARGET, history_features
from tests.support import panels

PANEL = panels.panel(stores=3, days=40)
CONTEXT = panels.context(PANEL)
INPUTS = panels.inputs(PANEL, CONTEXT)
SUMMARY = summarise(PANEL, CONTEXT, INPUTS)
TARGET = PANEL.last_day + timedelta(days=1)


def test_past_sales():
    assert list(SUMMARY.sales.per_as_of) == list(PER_AS_OF)
    values = history_features(SUMMARY.sales, TARGET, np.zeros(PANEL.n_series, dtype=np.bool_))
    assert set(values) == set(PER_TARGET)


def test_plans():
    values = ahead_features(SUMMARY.ahead, PANEL.sales.shape[1])
    assert set(values) == set(ahead_names(INPUTS.known_ahead))


def test_the_calendar():
    assert set(calendar_features(TARGET, CONTEXT, SUMMARY.regions)) == set(CALENDAR)


def test_the_weather():
    values = weather_features(TARGET, CONTEXT, SUMMARY.regions, INPUTS.weather)
    assert set(values) == set(weather_names(INPUTS.weather))


def test_the_store():
    values = store_features(
        CONTEXT,
        CONTEXT.rows(PANEL.store_ids),
        INPUTS.store_numbers,
        INPUTS.store_texts,
        INPUTS.categories,
    )
    assert list(values) == store_names(INPUTS.store_numbers, INPUTS.store_texts)
