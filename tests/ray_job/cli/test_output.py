from datetime import UTC, date, datetime

import pytest

from ray_job.cli.output import cell, counted


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (12_345, "12,345"),
        (0.0, "0"),
        (0.07129, "0.0713"),
        (-1234.56, "-1,234.6"),
        (date(2026, 11, 5), "Thu 5 Nov 2026"),
        (datetime(2026, 11, 5, 0, 7, tzinfo=UTC), "Thu 5 Nov 2026 00:07 UTC"),
        ("ok", "ok"),
    ],
)
def test_a_cell_is_written_as_people_write_it(value, text):
    assert cell(value) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 files"), (1, "1 file"), (2_000, "2,000 files")]
)
def test_the_unit_of_one_is_singular(number, text):
    assert counted(number, "file") == text
