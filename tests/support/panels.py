"""Small panels for tests: drawn at random, from a seed."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pyarrow as pa

from ray_job.data.context import Context
from ray_job.data.panel import Panel
from ray_job.features import Inputs

FIRST_DAY = date(2024, 1, 1)
CATEGORIES = {"holiday": ["none", "public"]}
REGIONS = ("BY", "NW")


def panel(
    *, stores: int = 6, items: int = 1, days: int = 220, ahead: int = 20, seed: int = 1
) -> Panel:
    """Stores closed on Sundays, promotions every other week, gaps, returns, days without sales."""
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
        observed={"customers": rng.uniform(1, 9, (n, days)).astype(np.float32)},
    )


def context(of: Panel, *, ahead: int = 20, weather: bool = True, stores: bool = True) -> Context:
    rng = np.random.default_rng(5)
    names = sorted(set(of.store_ids))
    last_day = of.last_day + timedelta(days=ahead)
    days = [of.first_day + timedelta(days=k) for k in range((last_day - of.first_day).days + 1)]
    return Context.build(
        pa.table(
            {
                "store_id": names,
                "region": [REGIONS[place % 2] for place in range(len(names))],
                "size": rng.uniform(100, 900, len(names)),
                "format": ["small" if place % 3 else "large" for place in range(len(names))],
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
        first_day=of.first_day,
        last_day=last_day,
    )


def inputs(of: Panel, around: Context, *, horizon: int = 7, reach: int = 14) -> Inputs:
    return Inputs.of(of, around, categories=CATEGORIES, horizon=horizon, reach=reach)
