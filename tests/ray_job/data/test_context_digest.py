"""The digest of a context changes with each of its fields: parts are named by it."""

from __future__ import annotations

from dataclasses import fields
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest

from ray_job.data.context import Context

FIRST, LAST = date(2025, 3, 1), date(2025, 3, 10)
DAYS = [FIRST + timedelta(days=number) for number in range(10)]
STORES = {"store_id": ["1", "2"], "region": ["A", "B"], "size": [1.0, 2.0], "format": ["x", "y"]}
WEATHER = {"region": ["A"] * 10, "date": DAYS, "rain": [1.0] * 10}
HOLIDAYS = {"region": ["A"], "date": [DAYS[3]], "holiday": ["a feast"]}
DELIVERED = {
    "stores": STORES,
    "weather": WEATHER,
    "holidays": HOLIDAYS,
    "first_day": FIRST,
    "last_day": LAST,
}
CASES = {
    "first_day": {"first_day": DAYS[1]},
    "last_day": {"last_day": DAYS[8]},
    "regions": {"holidays": {**HOLIDAYS, "region": ["C"]}},
    "store_ids": {"stores": {**STORES, "store_id": ["1", "3"]}},
    "store_region": {"stores": {**STORES, "region": ["B", "A"]}},
    "store_numbers": {"stores": {**STORES, "size": [1.0, 3.0]}},
    "store_texts": {"stores": {**STORES, "format": ["x", "z"]}},
    "weather_columns": {"weather": {"region": ["A"] * 10, "date": DAYS, "sun": [1.0] * 10}},
    "weather": {"weather": {**WEATHER, "rain": [*[1.0] * 9, 2.0]}},
    # The usual weather stands for the day that is not delivered: only the mark differs.
    "weather_missing": {"weather": {name: values[:9] for name, values in WEATHER.items()}},
    "holidays": {"holidays": {**HOLIDAYS, "date": [DAYS[4]]}},
}
"""For each field of a context a delivery that changes it."""


def context(**delivered) -> Context:
    tables = {name: pa.table(delivered[name]) for name in ("stores", "weather", "holidays")}
    days = {name: delivered[name] for name in ("first_day", "last_day")}
    return Context.build(**tables, **days, country="DE")


def plain(field):
    if isinstance(field, dict):
        return {name: plain(values) for name, values in field.items()}
    return (field.dtype.str, field.tolist()) if isinstance(field, np.ndarray) else field


def test_every_field_has_a_case():
    assert {field.name for field in fields(Context)} == {*CASES, "digest"}


@pytest.mark.parametrize("name", CASES)
def test_the_digest_changes_with(name):
    before, after = context(**DELIVERED), context(**{**DELIVERED, **CASES[name]})
    assert plain(getattr(before, name)) != plain(getattr(after, name))
    assert before.digest != after.digest
