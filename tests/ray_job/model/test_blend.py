from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ray_job.features.kinds import INTERMITTENT, KINDS, SHORT, SMOOTH, kinds_of
from ray_job.model.blend import Blend, HeldOut, KindBlend, choose
from ray_job.model.sum_factors import size_factors, sum_factors
from ray_job.model.week_agreement import kept_of_gain

ROWS = 28_000
"""As many of each number of days ahead on each of 84 days."""


@pytest.mark.parametrize(
    ("history_days", "share_without_sales", "kind"),
    [
        (200, 0.0, SMOOTH),
        (200, 0.2, SMOOTH),
        (200, 0.21, INTERMITTENT),
        (30, 0.5, INTERMITTENT),
        (181, 0.1, SHORT),
        (182, 0.1, SMOOTH),
        (0, np.nan, SHORT),
    ],
)
def test_the_kind_of_a_series(history_days, share_without_sales, kind):
    assert kinds_of(np.array([history_days]), np.array([share_without_sales])).tolist() == [kind]


def held_out(
    rng, *, logs=1.0, means=1.0, noise=(0.1, 0.1, 0.5), rule=1.0, rule_noise=0.3, level=40.0
):
    """Held-out rows of smooth series: forecasts are sales times a bias and lognormal noise."""
    actual = level * np.exp(rng.normal(0, 0.5, ROWS))
    noises = [rng.normal(0, spread, ROWS) for spread in (*noise, rule_noise)]
    return HeldOut(
        actual=actual,
        predicted=np.stack(
            [
                actual * bias * np.exp(noise)
                for bias, noise in zip((logs, means, 1.0), noises, strict=False)
            ],
            axis=1,
        ),
        rules={"last_open_day": actual * rule * np.exp(noises[-1])},
        kinds=np.zeros(ROWS, dtype=np.int64),
        days_ahead=np.arange(ROWS) % 7 + 1,
        target=np.arange(ROWS) // 7 % 84,
        unit=np.full(ROWS, 0.3 * level),
    )


def blended(blend, held):
    return blend.blended(held.predicted, held.kinds, held.days_ahead.astype(np.float64))


def test_boosters_of_equal_errors_are_averaged_and_a_worse_one_is_left_out():
    rng = np.random.default_rng(1)
    for noise, shares in (
        ((0.1, 0.1, 0.5), (0.5, 0.5, 0.0)),
        ((0.1, 0.5, 0.1), (0.5, 0.0, 0.5)),
        ((0.1, 0.07, 0.1), (0.25, 0.5, 0.25)),
        ((0.05, 0.5, 0.5), (1.0, 0.0, 0.0)),
        ((0.5, 0.05, 0.5), (0.0, 1.0, 0.0)),
        ((0.5, 0.5, 0.05), (0.0, 0.0, 1.0)),
    ):
        chosen = choose(held_out(rng, noise=noise)).kinds["smooth"].shares
        assert chosen == pytest.approx(shares, abs=0.03)
        assert sum(chosen) == pytest.approx(1.0)


def test_the_booster_of_lags_has_a_share_as_far_as_weeks_agree():
    """It is better in each week, or in the first three weeks only, and worse in the others."""
    rng = np.random.default_rng(7)
    held = held_out(rng, noise=(0.1, 0.1, 0.1))
    good_weeks = held.target // 7 < 3
    shares = []
    for spread in (np.full(ROWS, 0.04), np.where(good_weeks, 0.001, 0.16)):
        lags = held.actual * np.exp(rng.normal(0, spread))
        predicted = np.column_stack([held.predicted[:, :2], lags])
        shares.append(choose(replace(held, predicted=predicted)).kinds["smooth"].shares)
    in_each, in_some = shares
    assert in_each[2] == pytest.approx(0.75, abs=0.05)
    assert 0.0 < in_some[2] < 0.24  # less than a quarter, the least share that is tried


@pytest.mark.parametrize(
    ("weeks", "least", "most"),
    [
        ([1.0] * 12, 1.0, 1.0),
        ([1.2, 0.8] * 6, 0.98, 1.0),
        ([3.0, -1.0] * 6, 0.2, 0.5),
        ([4.0] + [0.0] * 11, 0.0, 1e-9),
        ([2.0] * 4 + [0.5] * 4 + [-1.0] * 4, 0.0, 0.1),
        ([-1.0] * 12, 0.0, 0.0),
        ([0.0] * 12, 0.0, 0.0),
        ([5.0], 0.0, 0.0),
    ],
)
def test_a_choice_is_kept_as_far_as_weeks_agree_that_it_is_better(weeks, least, most):
    target = np.repeat(np.arange(len(weeks)) * 7 + 7, 5)
    gains = np.array(weeks)[target // 7 - 1]
    kept = kept_of_gain(gains, target)
    assert least <= kept <= most
    # Neither the unit of the gains nor the order of the rows matters.
    order = np.random.default_rng(1).permutation(len(target))
    assert kept_of_gain(1000.0 * gains[order], target[order]) == pytest.approx(kept)


@pytest.mark.parametrize(
    ("examples", "shares"),
    [
        (0, (1 / 3, 1 / 3, 1 / 3)),
        (25_000, (0.5, 0.25, 0.25)),
        (100_000, (1, 0, 0)),
        (10**7, (1, 0, 0)),
    ],
)
def test_boosters_that_learnt_from_few_examples_get_shares_nearer_to_equal(examples, shares):
    held = held_out(np.random.default_rng(1), noise=(0.05, 0.5, 0.5), logs=0.9)
    blend = choose(held, examples)
    assert blend.kinds["smooth"].shares == pytest.approx(shares, abs=0.01)
    # The factors are those of the shares that are served.
    assert blended(blend, held).sum() == pytest.approx(held.actual.sum(), rel=0.01)


@pytest.mark.parametrize(("logs", "means"), [(0.9, 1.0), (1.1, 1.1), (0.85, 0.9)])
@pytest.mark.parametrize("level", [2.0, 40.0, 4000.0])
def test_what_is_served_has_the_sum_of_what_was_sold(logs, means, level):
    held = held_out(np.random.default_rng(2), logs=logs, means=means, level=level)
    served = blended(choose(held), held)
    for ahead in range(1, 8):
        rows = held.days_ahead == ahead
        assert served[rows].sum() == pytest.approx(held.actual[rows].sum(), rel=0.01)


def test_a_kind_of_the_last_weeks_only_gets_the_factors_of_all():
    held = held_out(np.random.default_rng(4), level=4000.0)
    late = held.target >= 70
    actual = np.where(late, 1.15, 1.0) * held.actual
    late_kind = replace(held, actual=actual, kinds=np.where(late, SMOOTH, SHORT))
    assert max(choose(late_kind).kinds["smooth"].factors) < 1.05
    only_late = replace(late_kind.at(late), kinds=np.full(int(late.sum()), SMOOTH))
    served = blended(choose(only_late), only_late)
    assert served.sum() > 1.1 * blended(Blend(), only_late).sum()


def test_weeks_that_do_not_agree_move_the_sum_less():
    rng = np.random.default_rng(3)
    held = held_out(rng)
    swing = np.where(held.target // 7 % 2 == 0, 1.3, 0.78)
    swung = HeldOut(
        held.actual * swing,
        held.predicted,
        held.rules,
        held.kinds,
        held.days_ahead,
        held.target,
        held.unit,
    )
    needed = swung.actual.sum() / blended(Blend(), swung).sum()
    factors = choose(swung).kinds["smooth"].factors
    assert needed > 1.02
    assert 1.0 <= max(factors) < 1 + 0.5 * (needed - 1)


@pytest.mark.parametrize(
    ("weeks", "least", "most"),
    [
        ([0.05] * 12, 1.041, 1.045),
        ([0.06, 0.04] * 6, 1.04, 1.045),
        # The pace of a quarter, which the final boosters learn.
        ([0.018] * 12, 1.0, 1.0),
        # 1 % above in the mean, of weeks that differ by more, and more of those that drift.
        ([0.05, -0.03] * 6, 1.0, 1.008),
        ([0.05] * 4 + [0.01] * 4 + [-0.03] * 4, 1.0, 1.0),
        ([-0.2] * 12, 0.81, 0.83),
        ([2.0] * 12, 1.25, 1.25),
        ([0.5], 1.0, 1.0),
    ],
)
def test_factors_are_kept_as_far_as_the_weeks_agree(weeks, least, most):
    """Weeks with 300 days each of every number of days ahead, of the same forecast."""
    target = np.repeat(np.arange(len(weeks)) * 7 + 7, 2 * 300)
    ahead = np.tile([1, 2], len(weeks) * 300)
    actual = 10.0 * np.exp(np.array(weeks))[target // 7 - 1]
    factors = sum_factors(actual, np.full(len(target), 10.0), ahead, target)
    assert len(factors) == 2
    assert all(least - 1e-9 <= factor <= most for factor in factors)


def test_a_rule_is_served_where_the_model_was_worse():
    rng = np.random.default_rng(4)
    better = choose(held_out(rng, rule=0.8, rule_noise=0.02))
    smooth = better.kinds["smooth"]
    assert smooth.rule == "last_open_day"
    assert smooth.factors[0] == pytest.approx(1.25, rel=0.01)  # its sum is right, too
    assert better.rules == ("last_open_day",)
    names, factors = better.rule_of(np.array([SMOOTH, SHORT]), np.array([1.0, 9.0]))
    assert names.tolist() == ["last_open_day"] * 2
    assert factors[1] == smooth.factors[-1]
    worse = choose(held_out(rng, rule_noise=0.3))
    assert worse.rules == ()
    assert worse.kinds["smooth"].wape < worse.kinds["smooth"].rule_wape


def test_each_kind_has_a_blend_of_its_own_unless_it_has_few_rows():
    rng = np.random.default_rng(5)
    first, second = (held_out(rng, noise=noise) for noise in ((0.05, 0.5, 0.5), (0.5, 0.05, 0.5)))
    kinds = np.repeat([SMOOTH, INTERMITTENT], ROWS)
    kinds[:10] = SHORT
    both = HeldOut(
        np.concatenate([first.actual, second.actual]),
        np.concatenate([first.predicted, second.predicted]),
        {
            name: np.concatenate([values, second.rules[name]])
            for name, values in first.rules.items()
        },
        kinds,
        np.concatenate([first.days_ahead, second.days_ahead]),
        np.concatenate([first.target, second.target]),
        np.concatenate([first.unit, second.unit]),
    )
    blend = choose(both)
    shares = {kind: blend.kinds[kind].log_share for kind in KINDS}
    assert shares["smooth"] > 0.85
    assert shares["intermittent"] == 0.0
    assert 0 < shares["short"] < 1


def test_a_kind_without_a_blend_is_the_mean_of_both():
    blend = Blend(kinds={"smooth": KindBlend(log_share=1.0, factors=(1.0, 2.0))})
    predicted = np.array([[10.0, 20.0]] * 3)
    kinds = np.array([SMOOTH, SMOOTH, SHORT])
    assert blend.blended(predicted, kinds, np.array([1.0, 5.0, 1.0])).tolist() == [10, 20, 15]


def test_the_shares_of_three_boosters_are_of_their_own_forecasts():
    blend = Blend(kinds={"smooth": KindBlend(log_share=0.25, lag_share=0.5)})
    predicted = np.array([[10.0, 20.0, 40.0]])
    assert blend.blended(predicted, np.array([SMOOTH]), np.array([1.0])).tolist() == [27.5]


def counts_of(kind, *, too_even=1.0, spread=1.2):
    """Poisson sales of series of very different levels, which both boosters know; noisy rules.

    Forecasts are the means to the power of `too_even`: below 1 those of slow series are too high.
    """
    rng = np.random.default_rng(6)
    held = held_out(rng)
    mean = 0.8 * np.exp(rng.normal(0, spread, ROWS))
    actual = rng.poisson(mean).astype(np.float64)
    predicted = mean**too_even
    return replace(
        held,
        actual=actual,
        predicted=np.stack([predicted] * 3, axis=1),
        rules={"last_open_day": rng.poisson(mean).astype(np.float64)},
        kinds=np.full(ROWS, kind),
        unit=np.sqrt(np.maximum(mean, 0.1)),
    )


def errors(held, predicted):
    wape = np.abs(predicted - held.actual).sum() / held.actual.sum()
    return wape, np.sqrt(np.mean(((predicted - held.actual) / held.unit) ** 2))


def of_sold(held, predicted):
    """Forecasts over what was sold, of each quarter of the rows by forecast."""
    quarters = np.array_split(np.argsort(predicted), 4)
    return [predicted[rows].sum() / held.actual[rows].sum() for rows in quarters]


def test_small_forecasts_that_are_too_high_are_drawn_down_within_their_sum():
    held = counts_of(INTERMITTENT, too_even=0.9)
    even = held.predicted[:, 1]
    noisy = even * np.exp(np.random.default_rng(2).normal(0, 0.6, ROWS))
    held = replace(held, predicted=np.stack([noisy, even, even], axis=1))
    blend = choose(held)
    kind = blend.kinds["intermittent"]
    assert kind.power > 0
    served = blended(blend, held)
    assert served.sum() == pytest.approx(held.actual.sum(), rel=0.01)
    undrawn = {"intermittent": kind.model_copy(update={"power": 0.0})}
    plain = blended(blend.model_copy(update={"kinds": undrawn}), held)
    assert of_sold(held, plain)[0] > 1.15
    assert 0.95 <= of_sold(held, served)[0] < 1.15
    assert all(
        new < old for new, old in zip(errors(held, served), errors(held, plain), strict=True)
    )
    # The order of forecasts stays, and a row's forecast depends on this row only.
    one_ahead = held.days_ahead == 1
    assert (np.diff(served[one_ahead][np.argsort(plain[one_ahead])]) >= 0).all()
    assert blended(blend, held.at(np.arange(ROWS) == 7))[0] == served[7]


@pytest.mark.parametrize("spread", [0.4, 1.2, 1.8])
def test_forecasts_that_are_means_stay_means(spread):
    """A smaller error that comes from nearer medians is none: slow items would never be ordered."""
    held = counts_of(INTERMITTENT, spread=spread)
    served = blended(choose(held), held)
    assert min(of_sold(held, served)) > 0.93


@pytest.mark.parametrize(
    ("examples", "is_drawn_down"), [(0, False), (50_000, False), (10**6, True)]
)
def test_a_power_is_left_out_where_other_shares_make_it_too_low(examples, is_drawn_down):
    """The booster that is too even is the best one; equal shares are uneven enough already."""
    held = counts_of(INTERMITTENT, too_even=0.9)
    even = held.predicted[:, 0]
    uneven = even**1.4 * np.exp(np.random.default_rng(3).normal(0, 0.6, ROWS))
    held = replace(held, predicted=np.stack([uneven, even, uneven], axis=1))
    kind = choose(held, examples).kinds["intermittent"]
    assert (kind.power > 0) == is_drawn_down


@pytest.mark.parametrize("kind", [SMOOTH, SHORT])
def test_other_series_are_not_drawn_down(kind):
    assert choose(counts_of(kind)).kinds[KINDS[kind]].power == 0.0


def test_a_blend_of_an_earlier_version_draws_nothing_down():
    kind = KindBlend.model_validate({"log_share": 0.5, "factors": [1.0]})
    blend = Blend(kinds={"intermittent": kind})
    predicted = np.array([[0.1, 0.3]])
    assert blend.blended(predicted, np.array([INTERMITTENT]), np.array([1.0])).tolist() == [0.2]


@pytest.mark.parametrize(
    ("above", "least", "most"),
    [
        (0.3, 0.28, 0.3),
        # The pace of the weeks, in which the final boosters are fitted as well.
        (0.018, 0.0, 0.0),
        (2.0, math.log(2.0), math.log(2.0)),
    ],
)
def test_factors_by_size_are_drawn_towards_1_like_those_of_sums(above, least, most):
    target = np.repeat(np.arange(12) * 7, 50)
    predicted = np.tile([3.0, 12.0], 300)
    sizes, factors = size_factors(predicted * np.exp(above), predicted, target)
    assert sizes == pytest.approx((3.0, 12.0))
    assert all(least - 1e-9 <= math.log(factor) <= most + 1e-9 for factor in factors)


def test_a_factor_of_items_is_not_that_of_whole_stores():
    """Items of 3 are 30 % too low, stores of 5,000 are not."""
    target = np.repeat(np.arange(12) * 7, 500)
    predicted = np.tile([3.0, 50.0, 5_000.0, 9_000.0], 1_500)
    sizes, factors = size_factors(np.where(predicted < 64, 1.3, 1.0) * predicted, predicted, target)
    assert sizes == pytest.approx((3.0, 50.0, 128.0))
    assert factors == pytest.approx((1.3, 1.3, 1.0), abs=0.01)
    of_size = np.array([1.0, 3.0, 50.0, 128.0, 700.0, 9_000.0])
    corrected = Blend(small_sizes=sizes, small_factors=factors).of_logs(of_size)
    assert corrected == pytest.approx(of_size * [1.3, 1.3, 1.3, 1.0, 1.0, 1.0], rel=0.01)


def test_weeks_that_sold_nothing_count_in_the_factors_by_size():
    target = np.repeat(np.arange(12) * 7, 50)
    # Nothing in every other week: as much as was forecast in all of them.
    actual = np.where(target // 7 % 2, 0.0, 0.4)
    assert size_factors(actual, np.full(600, 0.2), target)[1] == pytest.approx((1.0,))
