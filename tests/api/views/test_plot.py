"""The shapes of the plot."""

from __future__ import annotations

from datetime import date

import pytest

from api.views.plot import PlotDay, plot
from tests.api.fixtures.records import DAY


def test_shapes():
    first = date(2026, 11, 1)
    days = [
        PlotDay(first, 50.0, 40.0, 60.0, 55.0),
        PlotDay(first + DAY, 100.0, 90.0, 110.0, None),
        PlotDay(first + 3 * DAY, 80.0, None, None, 70.0),
    ]
    drawn = plot(days, first + DAY)
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
    assert drawn.today_x == pytest.approx(56 + (720 - 56 - 12) / 3, abs=0.1)
    assert len(drawn.dots) == 2
    assert plot([], first) is None
    zero = plot([PlotDay(first, 0.0, 0.0, 0.0, 0.0)], first)
    assert zero is not None
