"""The input of every rival, loaded once a process: model, days, weather, holidays, stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd

from ray_job.bucket.storage import open_bucket
from ray_job.data.context import Context
from ray_job.model.model import Model
from ray_job.nightly import run
from ray_job.nightly.request import RunRequest
from ray_job.settings import Settings
from tests.benchmarks.data import NOW, measured


@dataclass(eq=False)
class Night:
    """The input of a night, without the histories."""

    bucket: str
    as_of: date
    target_dates: tuple[date, ...]
    first_day: date
    model: Model
    context: Context
    settings: Settings
    paths: Mapping[str, Sequence[str]]
    """The files of each store."""
    _regions: dict[str, Any] = field(default_factory=dict)

    @property
    def regressor(self) -> Any:
        return self.model.regressor

    @property
    def features(self) -> tuple[str, ...]:
        return self.model.description.features

    @property
    def reach(self) -> int:
        """The number of days after the as-of whose known columns a run uses."""
        return max(len(self.target_dates), self.model.description.inputs.reach)

    @property
    def minimum_days(self) -> int:
        return self.settings.run.minimum_history_days

    @property
    def fallback_after_days(self) -> int:
        return self.settings.run.fallback_after_days

    def finish(self, raw: float, baseline: float) -> float:
        """Sales from the output of the regressor."""
        sales = np.maximum(np.expm1(raw + baseline), 0.0)
        return float(self.model.description.intervals.corrected(np.array([sales]))[0])

    def store_row(self, store_id: str) -> int:
        places = self._once("places", lambda: {s: k for k, s in enumerate(self.context.store_ids)})
        return int(places.get(store_id, -1))

    def region(self, store_id: str) -> str:
        return str(self.context.regions[self.context.store_region[self.store_row(store_id)]])

    def store_features(self, store_id: str) -> dict[str, float]:
        row = self.store_row(store_id)
        values_by_name = {
            f"store_{name}": values[row] for name, values in self.context.store_numbers.items()
        }
        for name, values in self.context.store_texts.items():
            codes = self._once(
                f"codes {name}",
                lambda name=name: {
                    value: code
                    for code, value in enumerate(
                        self.model.description.inputs.categories[f"store_{name}"]
                    )
                },
            )
            values_by_name[f"store_{name}"] = codes.get(values[row], np.nan)
        return values_by_name

    def holidays(self, region: str) -> set[date]:
        def make() -> set[date]:
            row = self.context.regions.index(region)
            days = pd.date_range(self.context.first_day, self.context.last_day)
            return {
                day.date() for day in days if self.context.holidays_around(day.date(), 0)[row, 0]
            } | {
                day.date()
                for day in pd.date_range(self.as_of, periods=60)
                if self.context.holidays_around(day.date(), 0)[row, 0]
            }

        return self._once(f"holidays {region}", make)

    def weather(self, region: str) -> pd.DataFrame:
        def make() -> pd.DataFrame:
            row = self.context.regions.index(region)
            days = pd.date_range(self.context.first_day, self.context.last_day)
            values = self.context.weather[row].astype(np.float64)
            return pd.DataFrame(values, index=days, columns=list(self.context.weather_columns))

        return self._once(f"weather {region}", make)

    def _once(self, name: str, make: Any) -> Any:
        if name not in self._regions:
            self._regions[name] = make()
        return self._regions[name]


@lru_cache(maxsize=1)
def night(bucket: str, horizon: int) -> Night:
    """Read from the bucket, once a process. It is measured for workers only."""
    storage = open_bucket(bucket)
    run_plan = run.prepare(storage, measured(Path(bucket), horizon), RunRequest(), NOW)
    paths: dict[str, list[str]] = {}
    for planned in run_plan.planned_chunks:
        stores, files = planned.chunk.files["store_id"], planned.chunk.files["path"]
        for store, path in zip(stores.to_pylist(), files.to_pylist(), strict=True):
            if store not in paths or path not in paths[store]:
                paths.setdefault(store, []).append(path)
    basis = run_plan.spec.basis
    return Night(
        bucket=bucket,
        as_of=basis.as_of,
        target_dates=basis.target_dates,
        first_day=basis.first_day,
        model=run_plan.model,
        context=run_plan.spec.context,
        settings=run_plan.spec.settings,
        paths=dict(sorted(paths.items())),
    )


@lru_cache(maxsize=1)
def handed(path: str) -> Night:
    """The night that the driver saved for its workers. Each of them loads it once."""
    return joblib.load(path)
