"""Kinds of series. The kind is a pure function of a series' own history."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ray_job.data.panel import Floats, Floats32

KINDS = ("smooth", "intermittent", "short")
SMOOTH, INTERMITTENT, SHORT = range(len(KINDS))

SHORT_DAYS = 182
"""A series with fewer days that count is short: it has no two seasons."""
INTERMITTENT_SHARE = 0.2
"""A series that sells nothing on more than this share of its open days is intermittent."""


def kinds_of(
    history_days: Floats | Floats32, share_without_sales: Floats | Floats32
) -> npt.NDArray[np.int64]:
    """(n,): the places in KINDS. The arguments are the features of these names, each (n,).

    A short series that often sells nothing is intermittent.
    """
    often = share_without_sales > INTERMITTENT_SHARE  # not so where it is NaN
    kinds = np.where(history_days < SHORT_DAYS, SHORT, SMOOTH)
    return np.where(often, INTERMITTENT, kinds).astype(np.int64)
