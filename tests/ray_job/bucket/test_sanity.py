"""Levels of a night: each forecast beside the usual sales of its day, and of no other."""

import math

import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from ray_job.bucket import sanity

amounts = st.none() | st.sampled_from([0.0, -1.0, 2.5, 7.0, 0.1])
lists = st.none() | st.lists(amounts, max_size=4)
even = st.integers(0, 4).flatmap(
    lambda days: st.tuples(*[st.lists(amounts, min_size=days, max_size=days)] * 2)
)
stores = st.lists(st.tuples(lists, lists) | even, max_size=5)


def night(rows):
    """A table of (forecasts, usual sales) of stores."""
    kind = pa.list_(pa.float64())
    columns = zip(*rows, strict=True) if rows else ([], [])
    return pa.table(
        {
            "store_id": pa.array([f"s{place}" for place in range(len(rows))], pa.string()),
            **{
                name: pa.array(list(column), kind)
                for name, column in zip(("predicted", "usual"), columns, strict=True)
            },
        }
    )


def pairs(rows, day):
    """(store, forecast, usual sales) of the stores that are compared on a day."""
    compared = []
    for place, (predicted, usual) in enumerate(rows):
        if day < min(len(predicted or ()), len(usual or ())):
            forecast, normal = predicted[day], usual[day]
            if forecast is not None and normal is not None and forecast >= 0 and normal > 0:
                compared.append((f"s{place}", forecast, normal))
    return compared


@given(stores)
@example([([1.0, 2.0], [2.0, 2.0]), ([3.0, 4.0], [2.0, 8.0])])
@example([([1.0, 2.0], [2.0]), (None, [2.0]), ([3.0], [1.0, 5.0])])
def test_levels_compare_a_day_with_itself(rows):
    table = night(rows)
    ratios = sanity.level_ratios(table)
    for day in range(4):
        expected = pairs(rows, day)
        assert (day in ratios) == bool(expected)
        if expected:
            total = math.fsum(forecast for _, forecast, _ in expected)
            usual = math.fsum(normal for _, _, normal in expected)
            assert math.isclose(ratios[day], total / usual)
        assert sorted(sanity.differences(table, day)) == sorted(expected)
