"""Kinds of days: the weekday, with or without promotion."""

from __future__ import annotations

from datetime import date

import numpy as np
import numpy.typing as npt

from ray_job.data.panel import Floats32

Ints = npt.NDArray[np.int64]

WEEK = 7
KINDS_OF_DAYS = 2 * WEEK
"""The weekdays without promotion, and those with it."""


def kinds_of_days(first_day: date, promo: Floats32 | None, days: int) -> Ints:
    """(n or 1, days): the weekday (Monday is 0) of each day from `first_day` on, plus 7 on promo.

    `promo` is (n, days or more); None where there is no such column.
    """
    weekdays = (first_day.weekday() + np.arange(days)) % WEEK
    if promo is None or promo.shape[1] < days:
        return weekdays[None, :]
    with np.errstate(invalid="ignore"):
        return np.asarray(weekdays[None, :] + WEEK * (promo[:, :days] > 0), dtype=np.int64)
