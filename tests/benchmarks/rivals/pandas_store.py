"""One store's forecast as it is usually written in pandas.

It is a second implementation of the features. Its predictions must agree with ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from ray_job.data.context.calendar_days import (
    days_around_christmas,
    days_around_easter,
    days_in_christmas_season,
    days_in_easter_season,
    same_day_of_month,
    same_season,
)
from tests.benchmarks.rivals.shared import Night

_DAY = timedelta(days=1)
_YEAR = 364


def clean(frame: pd.DataFrame, night: Night) -> pd.DataFrame:
    """A row for each day of the lookback and of the days that are known ahead."""
    frame = frame.sort_values("delivered_at").drop_duplicates("date", keep="last")
    frame = frame.set_index(pd.DatetimeIndex(frame["date"]))[["sales", "open", "promo"]]
    days = pd.date_range(night.first_day, night.as_of + timedelta(days=night.reach))
    frame = frame.reindex(days)
    begun = frame["sales"].notna().cummax()
    frame.loc[frame["sales"].isna() & begun & (frame["open"] == 0), "sales"] = 0.0
    frame.loc[pd.Timestamp(night.as_of + _DAY) :, "sales"] = np.nan
    return frame


def forecast(store_id: str, frame: pd.DataFrame, night: Night) -> list[dict[str, Any]]:
    """The predictions of one store for each target date."""
    days = clean(frame, night)
    past = days.loc[: pd.Timestamp(night.as_of)]
    summary = summarise(past, night.as_of)
    rows = []
    for target in night.target_dates:
        rows.append({"store_id": store_id, "target_date": target})
        rows[-1]["predicted"] = _predict(store_id, days, past, summary, target, night)
    return rows


def _predict(
    store_id: str,
    days: pd.DataFrame,
    past: pd.DataFrame,
    summary: Summary,
    target: date,
    night: Night,
) -> float:
    if days["open"].get(pd.Timestamp(target)) == 0:
        return 0.0
    known = past["sales"].last_valid_index()
    too_old = known is None or (pd.Timestamp(night.as_of) - known).days > night.fallback_after_days
    if len(summary.residuals) < night.minimum_days or too_old:
        return _simple_rule(past, target)
    values = features(store_id, days, summary, target, night)
    row = np.array([[values[name] for name in night.features]], dtype=np.float32)
    raw = float(night.regressor.predict(row)[0])
    return night.finish(raw, float(np.float32(values["baseline"])))


def _simple_rule(past: pd.DataFrame, target: date) -> float:
    sales = past.loc[past["open"] != 0, "sales"].dropna()
    alike = sales[sales.index.weekday == target.weekday()]
    return float((alike if len(alike) else sales).tail(8).clip(lower=0).mean())


@dataclass
class Summary:
    """Values that are the same for all target dates."""

    residuals: pd.Series
    """By date, of the days that count."""
    sold: pd.Series
    promo: pd.Series
    cells: pd.DataFrame
    known: Any
    features: dict[str, float]


def summarise(past: pd.DataFrame, as_of: date) -> Summary:
    trading = past["sales"].notna() & (past["open"] != 0)
    promo = past["promo"].fillna(0) != 0
    selling = past["sales"] > 0
    share = (trading & ~selling).sum() / trading.sum() if trading.any() else np.nan
    counted = trading & (selling | (share > 0.05))
    logs = np.log1p(past.loc[counted, "sales"].clip(lower=0))
    cells, level, effect = _baseline(logs, promo[counted])
    keys = pd.MultiIndex.from_arrays([logs.index.weekday, promo[counted].to_numpy()])
    residuals = logs - cells.stack().reindex(keys).to_numpy()  # noqa: PD013
    recent = residuals.loc[pd.Timestamp(as_of) - pd.Timedelta(days=209) :]
    on = promo.reindex(recent.index)
    ages = (pd.Timestamp(as_of) - recent.index).days.to_numpy()
    values = {
        "history_days": min(len(residuals), 200),
        "share_without_sales": share,
        "level": level,
        "promo_effect": effect,
        "residual_before_last": recent.iloc[-2] if len(recent) > 1 else np.nan,
        "residual_least_12": recent.tail(12).min(),
        "residual_most_12": recent.tail(12).max(),
        "residual_promo_6": recent[on].tail(6).mean(),
        "residual_plain_6": recent[~on].tail(6).mean(),
        "spread_6": _spread(recent.tail(6)),
        "spread": _spread(recent.tail(50)),
        "spread_all": _spread(residuals),
        "residual_year": _window(residuals, as_of, -_YEAR + 1, 0),
        "residual_year_ago_level": _window(residuals, as_of, -_YEAR - 27, -_YEAR),
    }
    for k in (1, 3, 6, 12, 25, 50, 100):
        values[f"residual_last_{k}"] = recent.tail(k).mean()
    for half_life in (5, 15, 40):
        weights = 0.5 ** (ages / half_life)
        values[f"residual_half_life_{half_life}"] = (
            (recent * weights).sum() / weights.sum() if len(recent) else np.nan
        )
    sold = past.loc[counted, "sales"].clip(lower=0)
    last = sold.loc[recent.index]
    mean = last.mean()
    values["mean_recent"] = np.log1p(mean)
    for k in (3, 7, 14, 28, 56):
        values[f"mean_last_{k}"] = np.log1p(last.tail(k).mean()) - np.log1p(mean)
    values["share_without_sales_28"] = (last.tail(28) <= 0).mean()
    positive = np.flatnonzero(last > 0)
    values["days_since_sold"] = len(last) - 1 - positive[-1] if len(positive) else np.nan
    values["variation"] = last.std(ddof=0) / mean if mean > 0 else np.nan
    for k in (0, 1, 2, 3, 4, 5, 6, 13, 20, 27):
        values[f"lag_{k}"] = np.log1p(sold.get(pd.Timestamp(as_of) - pd.Timedelta(days=k), np.nan))
    return Summary(residuals, sold, promo, cells, past["sales"].last_valid_index(), values)


def _baseline(logs: pd.Series, promo: pd.Series) -> tuple[pd.DataFrame, float, float]:
    """By weekday and promotion, each cell drawn to the mean as if by two more days."""
    weekdays = range(7)
    grouped = logs.groupby(logs.index.weekday)
    sums, days = grouped.sum().reindex(weekdays).fillna(0), grouped.count().reindex(weekdays)
    days = days.fillna(0)
    level = logs.mean()
    expected = level + (sums - days * level) / (days + 2.0)
    cells, effects = {}, {}
    for state in (False, True):
        chosen = logs[promo == state]
        grouped = chosen.groupby(chosen.index.weekday)
        of = grouped.sum().reindex(weekdays).fillna(0)
        number = grouped.count().reindex(weekdays).fillna(0)
        effects[state] = (of - number * expected).sum() / (number.sum() + 2.0)
        cells[state] = (of + 2.0 * (expected + effects[state])) / (number + 2.0)
    return pd.DataFrame(cells), level, effects[True] - effects[False]


def features(
    store_id: str, days: pd.DataFrame, summary: Summary, target: date, night: Night
) -> dict[str, float]:
    as_of, residuals = night.as_of, summary.residuals
    stamp = pd.Timestamp(target)
    ahead = (target - as_of).days
    promoted = bool(days["promo"].get(stamp) == 1)
    baseline = summary.cells.loc[target.weekday(), promoted]
    same = residuals[residuals.index.weekday == target.weekday()]
    same = same.loc[stamp - pd.Timedelta(days=7 * (52 + (ahead - 1) // 7)) :]
    alike = same[summary.promo.reindex(same.index) == promoted]
    year_ago = summary.features["residual_year_ago_level"]
    week = _window(residuals, as_of, ahead - _YEAR - 3, ahead - _YEAR + 3)
    earlier = _window(residuals, as_of, ahead - 2 * _YEAR - 3, ahead - 2 * _YEAR + 3)
    changes = [
        week - year_ago,
        earlier - _window(residuals, as_of, -2 * _YEAR - 27, -2 * _YEAR),
    ]
    season = (same_season(target, 1) - as_of).days
    month, around = [], []
    for back in range(1, 13):
        day = (same_day_of_month(target, back) - as_of).days
        usual = _window(residuals, as_of, day - 14, min(0, day + 14))
        month.append(_window(residuals, as_of, day, day) - usual)
        around.append(_window(residuals, as_of, day - 1, day + 1) - usual)
    recent = residuals.loc[pd.Timestamp(as_of) - pd.Timedelta(days=209) :]
    gaps = recent.index.to_series().diff().dt.days
    reopened = gaps[gaps > 7]
    name = "residual_promo_6" if promoted else "residual_plain_6"
    return {
        **summary.features,
        "baseline": baseline,
        "weekday_effect": baseline - summary.features["level"],
        **{f"residual_same_kind_{k}": alike.tail(k).mean() for k in (1, 2, 4, 8)},
        **{f"residual_same_weekday_{k}": same.tail(k).mean() for k in (1, 4)},
        **{
            f"mean_same_weekday_{k}": np.log1p(summary.sold.loc[same.index].tail(k).mean())
            - summary.features["mean_recent"]
            for k in (4, 12)
        },
        **_promo_effect(days, summary, as_of, stamp),
        "residual_same_promo_6": summary.features[name],
        "residual_year_ago_day": _window(residuals, as_of, ahead - _YEAR, ahead - _YEAR),
        "residual_year_ago_3_days": _window(residuals, as_of, ahead - _YEAR - 1, ahead - _YEAR + 1),
        "residual_year_ago_week": week,
        "residual_year_ago_change": pd.Series(changes).mean(),
        "residual_same_season_day": _window(residuals, as_of, season, season),
        "residual_same_season_week": _window(residuals, as_of, season - 3, season + 3),
        "residual_day_of_month": pd.Series(month).mean(),
        "residual_3_days_of_month": pd.Series(around).mean(),
        "days_since_open": (stamp - residuals.index[-1]).days,
        "days_since_reopening": (stamp - reopened.index[-1]).days if len(reopened) else np.nan,
        "days_since_sales": (stamp - summary.known).days,
        **_plans(days, stamp),
        **calendar(target, night.region(store_id), night),
        **night.store_features(store_id),
    }


def _promo_effect(
    days: pd.DataFrame, summary: Summary, as_of: date, stamp: pd.Timestamp
) -> dict[str, float]:
    """What the promotion state of the target date has meant before, and how unusual it is."""
    today = days["promo"].get(stamp, np.nan)
    delivered = days["promo"].loc[: pd.Timestamp(as_of)]
    alike = summary.residuals[delivered.reindex(summary.residuals.index) == today]
    usual = delivered.tail(56).mean()
    unknown = np.isnan(today) or np.isnan(usual)
    relative = np.clip((today - usual) / abs(usual), -20, 20) if usual else 0.0
    return {
        "residual_same_promo": np.nan if np.isnan(today) else alike.sum() / (len(alike) + 4.0),
        "promo_relative": np.nan if unknown else relative,
    }


def _plans(days: pd.DataFrame, stamp: pd.Timestamp) -> dict[str, float]:
    day = pd.Timedelta(days=1)
    before = days.loc[stamp - 14 * day : stamp - day].iloc[::-1]
    after = days.loc[stamp + day : stamp + 28 * day]
    shut = (after["open"] == 0).to_numpy()
    long = shut[:-2] & shut[1:-1] & shut[2:] if len(shut) > 2 else np.array([], dtype=bool)
    today = days["promo"].get(stamp, np.nan)
    soon = after["promo"].head(14)
    return {
        "closed_days_before": _run((before["open"] == 0).to_numpy()),
        "closed_days_after": _run(shut[:14]),
        "days_since_closed": _place((before["open"] == 0).to_numpy()),
        "days_until_long_closure": _place(long),
        "promo": today,
        "promo_before": before["promo"].iloc[0] if len(before) else np.nan,
        "promo_after": soon.iloc[0] if len(soon) else np.nan,
        "promo_since": _place((before["promo"] != today).to_numpy()),
        "promo_until": _place(((soon != today) & soon.notna()).to_numpy()),
    }


@lru_cache(maxsize=1024)
def calendar(target: date, region: str, night: Night) -> dict[str, float]:
    """Features that are the same for all stores of a region."""
    stamp = pd.Timestamp(target)
    holidays = night.holidays(region)
    since = [k for k in range(29) if target - timedelta(days=k) in holidays]
    until = [k for k in range(29) if target + timedelta(days=k) in holidays]
    values = {
        "weekday": target.weekday(),
        "day_of_month": target.day,
        "days_to_month_end": stamp.days_in_month - target.day,
        "day_of_year": stamp.dayofyear,
        "month_of_quarter": (target.month - 1) % 3,
        "days_from_christmas": days_in_christmas_season(target),
        "days_from_easter": days_in_easter_season(target),
        "days_around_christmas": days_around_christmas(target),
        "days_around_easter": days_around_easter(target),
        "holiday_today": float(target in holidays),
        "days_since_holiday": since[0] if since else np.nan,
        "days_until_holiday": until[0] if until else np.nan,
    }
    weather = night.weather(region)
    for name in weather.columns:
        today = weather[name].get(stamp, np.nan)
        week = weather[name].loc[stamp - pd.Timedelta(days=7) : stamp - pd.Timedelta(days=1)]
        values[f"weather_{name}"] = today
        values[f"weather_change_{name}"] = today - week.sum() / 7
    return values


def _window(residuals: pd.Series, as_of: date, first: int, last: int) -> float:
    start = pd.Timestamp(as_of)
    inside = residuals.loc[start + pd.Timedelta(days=first) : start + pd.Timedelta(days=last)]
    return float(inside.astype(np.float32).astype(np.float64).mean())


def _spread(values: pd.Series) -> float:
    return float(values.std(ddof=0)) if len(values) >= 5 else np.nan


def _run(flags: np.ndarray) -> float:
    return float(len(flags) if flags.all() else np.argmin(flags)) if len(flags) else 0.0


def _place(flags: np.ndarray) -> float:
    return float(np.argmax(flags) + 1) if len(flags) and flags.any() else np.nan
