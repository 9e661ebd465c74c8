from __future__ import annotations

import numpy as np
import pytest

from ray_job.features.kinds import SMOOTH
from ray_job.model.blend import HeldOut, choose
from ray_job.model.shares import EQUAL, TRIED, between, noise_of, usual_shares, worth_their_time

ROWS = 84 * 300
TARGET = np.repeat(np.arange(84), 300)


@pytest.mark.parametrize(
    ("noise", "logs"),
    [(0.0, 0.75), (0.02, 0.75), (0.035, 0.625), (0.05, 0.5), (0.4, 0.5), (-0.01, 0.75)],
)
def test_the_noisier_sales_are_the_more_held_out_days_decide(noise, logs):
    assert usual_shares(noise, (0.5, 0.5, 0.0)) == pytest.approx((logs, 1.0 - logs, 0.0))


@pytest.mark.parametrize("spread", [0.0, 0.1, 0.3, 0.6])
@pytest.mark.parametrize("bias", [0.8, 1.0, 1.2])
def test_noise_is_how_far_means_lie_above_means_of_logs(spread, bias):
    rng = np.random.default_rng(11)
    predicted = 1e4 * np.exp(rng.normal(0, 1.0, 100_000))
    actual = bias * predicted * np.exp(rng.normal(0, spread, 100_000))
    assert noise_of(actual, predicted) == pytest.approx(np.exp(spread**2 / 2) - 1, abs=0.01)


def test_noise_of_counts_is_larger_for_small_ones():
    rng = np.random.default_rng(12)
    of_items, of_stores = (
        noise_of(rng.poisson(mean, 50_000).astype(float), np.full(50_000, mean))
        for mean in (2.0, 2_000.0)
    )
    assert of_items > 0.05
    assert 0.0 < of_stores < 0.001
    assert noise_of(np.zeros(3), np.zeros(3)) == 0.0


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


def held_out(logs: np.ndarray, means: np.ndarray, *, low: float = 1.0, days: int = 84) -> HeldOut:
    """Sales of stores on so many days, and forecasts with errors of these spreads (m,).

    Those of the booster of logs are `low` times as large. Those of lags are bad.
    """
    rng = np.random.default_rng(3)
    actual = 4000.0 * np.exp(rng.normal(0, 0.5, ROWS))
    spreads = (logs, means, np.full(ROWS, 0.6))
    predicted = np.column_stack([actual * np.exp(rng.normal(0, spread)) for spread in spreads])
    predicted[:, 0] *= low
    return HeldOut(
        actual=actual,
        predicted=predicted,
        rules={"last_open_day": actual * np.exp(rng.normal(0, 0.6, ROWS))},
        kinds=np.full(ROWS, SMOOTH),
        days_ahead=np.arange(ROWS) % 7 + 1,
        target=TARGET % days,
        unit=np.full(ROWS, 1200.0),
    )


def shares_of(held: HeldOut) -> tuple[float, ...]:
    return choose(held).kinds["smooth"].shares


@pytest.mark.parametrize(
    ("spread", "low", "least", "most"),
    [
        (0.1, 1.0, 0.65, 0.75),
        # A bias that all weeks share is corrected. It is no noise.
        (0.1, 0.9, 0.65, 0.75),
        (0.1, 1.08, 0.65, 0.75),
        (0.5, 1.0, 0.0, 0.25),
    ],
)
def test_weeks_that_do_not_agree_leave_steady_sales_near_the_usual_share(spread, low, least, most):
    """The booster of logs is worse in sum, by two weeks of twelve in which it was far off."""
    bad = np.isin(TARGET // 7, (3, 4))
    logs = np.where(bad, 3.0, 1.0) * spread
    held = held_out(logs, np.full(ROWS, 1.15 * spread), low=low)
    assert least <= shares_of(held)[0] <= most


@pytest.mark.parametrize(
    ("logs", "means", "share"), [(0.2, 0.05, 0.0), (0.05, 0.2, 1.0), (0.1, 0.1, 0.5)]
)
def test_weeks_that_agree_have_the_shares_with_the_least_error(logs, means, share):
    held = held_out(np.full(ROWS, logs), np.full(ROWS, means))
    assert shares_of(held)[0] == pytest.approx(share, abs=0.05)


def test_a_single_week_decides_alone():
    held = held_out(np.full(ROWS, 0.2), np.full(ROWS, 0.05), days=7)
    assert shares_of(held)[0] == 0.0
