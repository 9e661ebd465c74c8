"""The shapes of the plot."""

from __future__ import annotations

from datetime import date

import pytest

from api.views.language import language
from api.views.plot import NARROW, PlotDay, plot
from tests.api.fixtures.records import DAY

ENGLISH = language("en")


def test_shapes():
    first = date(2026, 11, 1)
    days = [
        PlotDay(first, 50.0, 40.0, 60.0, 55.0),
        PlotDay(first + DAY, 100.0, 90.0, 110.0, None),
        PlotDay(first + 3 * DAY, 80.0, None, None, 70.0),
    ]
    drawn = plot(days, first, first + DAY, ENGLISH)
    assert drawn is not None
    # The axis ends at 150 in steps of 50. A step is (280 − 12 − 44) / 3 = 74.7 units high.
    assert [(label.text, label.at) for label in drawn.y_labels] == [
        ("0", 236.0),
        ("50", 161.3),
        ("100", 86.7),
        ("150", 12.0),
    ]
    # The third day is missing, so the line has a gap.
    assert [len(points.split()) for points in drawn.forecast] == [2, 1]
    assert len(drawn.bands[0].split()) == 4
    # The labels have three characters of 7.5 units, and 14 beside them.
    assert drawn.left == 14 + 3 * 7.5
    assert drawn.today_x == pytest.approx(36.5 + (720 - 24 - 36.5) / 3, abs=0.1)
    assert len(drawn.dots) == 2
    assert plot([], first, first, ENGLISH) is None
    zero = plot([PlotDay(first, 0.0, 0.0, 0.0, 0.0)], first, first, ENGLISH)
    assert zero is not None


def test_the_axis_of_days_begins_with_the_first_day_although_nothing_is_known_of_it():
    first = date(2026, 11, 1)
    days = [PlotDay(first + back * DAY, 5.0, 4.0, 6.0, None) for back in range(28, 35)]
    drawn = plot(days, first, first + 28 * DAY, ENGLISH, NARROW)
    assert drawn is not None
    assert [label.text for label in drawn.x_labels] == ["Sun 1 Nov", "Sun 15 Nov", "Sun 29 Nov"]
    assert drawn.today_x == pytest.approx(
        drawn.left + (drawn.right - drawn.left) * 28 / 34, abs=0.1
    )


def test_labels_of_days_do_not_touch_where_those_of_numbers_are_long():
    first = date(2026, 11, 1)
    days = [PlotDay(first + back * DAY, 1.2e7, 1.1e7, 1.3e7, None) for back in range(28, 35)]
    drawn = plot(days, first, first + 28 * DAY, ENGLISH, NARROW)
    assert drawn is not None
    assert [label.text for label in drawn.x_labels] == ["Sun 1 Nov", "Sun 29 Nov"]
