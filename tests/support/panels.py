"""Small panels drawn from a seed, their context, and a model that is fitted on them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa

from ray_job.data.context import Context
from ray_job.data.panel import Panel
from ray_job.features import Inputs
from ray_job.model.model import Model, describe
from ray_job.model.training import fit
from ray_job.settings import Settings

FIRST_DAY = date(2024, 1, 1)
CATEGORIES = {"holiday": ["none", "public"]}
REGIONS = ("BY", "NW")


def panel(
    *, stores: int = 6, items: int = 1, days: int = 220, ahead: int = 20, seed: int = 1
) -> Panel:
    """A panel of `stores` × `items` series with `days` of sales and `ahead` days known ahead.

    Stores are closed on Sundays and have promotions every other week; there are unknown days,
    returns, and days without sales.
    """
    rng = np.random.default_rng(seed)
    n, all_days = stores * items, days + ahead
    weekday = (FIRST_DAY.weekday() + np.arange(all_days)) % 7
    promo = ((np.arange(all_days) // 7) % 2 == 0) & (weekday < 5)
    opened = np.tile(weekday != 6, (n, 1)) & (rng.random((n, all_days)) > 0.02)
    mean = rng.uniform(20, 2000, (n, 1)) * (1 + 0.3 * promo) * (1 + 0.1 * weekday)
    sales = np.round(mean * np.exp(rng.normal(0, 0.15, (n, all_days))), 2)
    sales[rng.random(sales.shape) < 0.01] *= -0.1
    sales[rng.random(sales.shape) < 0.01] = 0.0
    sales = np.where(opened, sales, 0.0)
    sales[rng.random(sales.shape) < 0.02] = np.nan
    names = np.repeat([f"s{store:03d}" for store in range(stores)], items)
    item_ids = [f"i{item:03d}" if items > 1 else "" for item in range(items)]
    known_ahead = {
        "open": opened.astype(np.float32),
        "promo": np.tile(promo, (n, 1)).astype(np.float32),
        "holiday": (rng.random((n, all_days)) < 0.03).astype(np.float32),
        "school_holiday": np.tile((np.arange(all_days) // 30) % 4 == 0, (n, 1)).astype(np.float32),
    }
    known_ahead["open"][rng.random(opened.shape) < 0.01] = np.nan
    return Panel(
        store_ids=names.astype(np.object_),
        item_ids=np.array(item_ids * stores, dtype=np.object_),
        first_day=FIRST_DAY,
        sales=np.ascontiguousarray(sales[:, :days]),
        known_ahead=known_ahead,
    )


def context(
    series: Panel, *, ahead: int = 20, weather: bool = True, stores: bool = True
) -> Context:
    rng = np.random.default_rng(5)
    names = sorted(set(series.store_ids))
    last_day = series.last_day + timedelta(days=ahead)
    days = [
        series.first_day + timedelta(days=k) for k in range((last_day - series.first_day).days + 1)
    ]
    return Context.build(
        pa.table(
            {
                "store_id": names,
                "region": [REGIONS[number % 2] for number in range(len(names))],
                "size": rng.uniform(100, 900, len(names)),
                "format": ["small" if number % 3 else "large" for number in range(len(names))],
            }
        )
        if stores
        else None,
        pa.table(
            {
                "region": [region for region in REGIONS for _ in days],
                "date": pa.array(days * 2, pa.date32()),
                "temperature": rng.normal(10, 5, 2 * len(days)),
                "events": ["sun"] * (2 * len(days)),
            }
        )
        if weather
        else None,
        None,
        country="DE",
        first_day=series.first_day,
        last_day=last_day,
    )


def inputs(series: Panel, surroundings: Context, *, horizon: int = 7, reach: int = 14) -> Inputs:
    return Inputs.of(series, surroundings, categories=CATEGORIES, horizon=horizon, reach=reach)


def fitted_model(
    series: Panel,
    surroundings: Context,
    settings: Settings,
    as_of: date,
    *,
    version: str = "v",
    created_at: datetime = datetime(2025, 1, 1, tzinfo=UTC),
) -> Model:
    """The default model, fitted and calibrated on the days through `as_of`."""
    fitted = fit(series, as_of, surroundings, settings, categories=CATEGORIES)
    return Model.of(
        fitted.regressor,
        describe(
            version=version,
            created_at=created_at,
            as_of=as_of,
            inputs=fitted.inputs,
            features=fitted.features,
            trained_on=fitted.trained_on,
            target="blend",
            intervals=fitted.intervals,
            blend=fitted.blend,
            item_levels=fitted.item_levels,
        ),
    )
