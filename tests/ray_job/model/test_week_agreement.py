"""How often the mean of weeks without any effect seems to be one."""

import numpy as np
import pytest

from ray_job.model.week_agreement import squared_error_of_mean

DRAWS = 2000


def weeks(rng, number, together):
    """Weeks of mean 0, each of which has the share `together` of the one before it."""
    values = rng.normal(size=number + 20)
    for week in range(1, len(values)):
        values[week] += together * values[week - 1]
    return values[20:]


@pytest.mark.parametrize(
    ("number", "together", "least", "most"),
    [
        # One standard error is exceeded by 32 % of means. Weeks that follow each other are alike.
        (6, 0.4, 0.25, 0.38),
        (7, 0.4, 0.25, 0.38),
        (12, 0.4, 0.28, 0.4),
        (20, 0.4, 0.3, 0.43),
        # Where they are not, less is kept than could be.
        (12, 0.0, 0.15, 0.3),
        (30, 0.0, 0.2, 0.32),
        # Of four weeks nearly nothing is known.
        (4, 0.0, 0.0, 0.15),
    ],
)
def test_a_third_of_all_means_is_larger_than_the_error(number, together, least, most):
    rng = np.random.default_rng(1)
    draws = [weeks(rng, number, together) for _ in range(DRAWS)]
    larger = [values.mean() ** 2 > squared_error_of_mean(values) for values in draws]
    assert least < np.mean(larger) < most
