from __future__ import annotations

import numpy as np
import pytest

from ray_job.features.kinds import SMOOTH
from ray_job.model.blend import HeldOut, choose
from ray_job.model.shares import EQUAL, TRIED, between, usual_shares, worth_their_time

ROWS = 84 * 300
TARGET = np.repeat(np.arange(84), 300)


@pytest.mark.parametrize(
    ("factor", "logs"),
    [(1.0, 0.75), (1.025, 0.625), (0.975, 0.625), (1.05, 0.5), (1.4, 0.5), (0.7, 0.5)],
)
def test_the_noisier_sales_are_the_more_held_out_days_decide(factor, logs):
    assert usual_shares(factor, (0.5, 0.5, 0.0)) == pytest.approx((logs, 1.0 - logs, 0.0))


def test_shares_between_others():
    assert between((1.0, 0.0, 0.0), EQUAL, 0.0) == (1.0, 0.0, 0.0)
    assert between((1.0, 0.0, 0.0), EQUAL, 1.0) == EQUAL
    assert between((1.0, 0.0, 0.0), (0.0, 0.5, 0.5), 0.5) == (0.5, 0.25, 0.25)


@pytest.mark.parametrize(
    ("shares", "worth"),
    [
        ((0.02, 0.49, 0.49), (0.0, 0.5, 0.5)),
        ((0.04, 0.04, 0.92), (0.0, 0.0, 1.0)),
        ((0.05, 0.95, 0.0), (0.05, 0.95, 0.0)),
        (EQUAL, EQUAL),
    ],
)
def test_a_booster_is_not_computed_for_a_share_of_next_to_nothing(shares, worth):
    assert worth_their_time(shares) == pytest.approx(worth)


def test_the_shares_that_are_tried_are_all_quarters():
    assert len(set(TRIED)) == 15
    assert all(sum(shares) == 1.0 for shares in TRIED)


def smooth(logs: np.ndarray, means: np.ndarray, level: float, *, low: float = 1.0) -> HeldOut:
    """Sales of 84 days, and forecasts with errors of these spreads (m,); those of lags are bad."""
    rng = np.random.default_rng(3)
    actual = level * np.exp(rng.normal(0, 0.5, ROWS))
    spreads = (logs, means, np.full(ROWS, 0.6))
    predicted = np.column_stack([actual * np.exp(rng.normal(0, spread)) for spread in spreads])
    predicted[:, 0] *= low
    return HeldOut(
        actual=actual,
        predicted=predicted,
        rules={"last_open_day": actual * np.exp(rng.normal(0, 0.6, ROWS))},
        kinds=np.full(ROWS, SMOOTH),
        days_ahead=np.arange(ROWS) % 7 + 1,
        target=TARGET,
        unit=np.full(ROWS, 0.3 * level),
    )


def shares_of(held: HeldOut) -> tuple[float, ...]:
    return choose(held).kinds["smooth"].shares


def test_weeks_that_do_not_agree_leave_the_usual_shares():
    """The booster of logs is worse in sum, by two weeks of twelve in which it was far off."""
    bad = np.isin(TARGET // 7, (3, 4))
    held = smooth(np.where(bad, 0.3, 0.1), np.full(ROWS, 0.115), level=4000.0)
    assert shares_of(held) == pytest.approx((0.75, 0.25, 0.0), abs=0.02)
    noisy = smooth(np.where(bad, 0.3, 0.1), np.full(ROWS, 0.115), level=40.0, low=0.85)
    assert shares_of(noisy)[0] in {0.25, 0.5}


@pytest.mark.parametrize(
    ("logs", "means", "share"), [(0.2, 0.05, 0.0), (0.05, 0.2, 1.0), (0.1, 0.1, 0.5)]
)
def test_weeks_that_agree_have_the_shares_with_the_least_error(logs, means, share):
    held = smooth(np.full(ROWS, logs), np.full(ROWS, means), level=4000.0)
    assert shares_of(held)[0] == pytest.approx(share, abs=0.05)
