"""One store's forecast with our own feature functions, called store by store."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_job.data.panel import Panel
from ray_job.features import features_at, summarise
from ray_job.forecasting.predict import simple_rule
from tests.benchmarks.rivals.shared import Night

COLUMNS = ["date", "sales", "open", "promo"]


def read(paths: list[str]) -> pa.Table:
    """A store's rows, later files last."""
    tables = [pq.read_table(path, columns=[*COLUMNS, "delivered_at"]) for path in paths]
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables).sort_by("delivered_at")


def forecast(store_id: str, paths: list[str], night: Night) -> list[dict[str, Any]]:
    table = read(paths)
    first = np.datetime64(night.first_day, "D")
    cells = (table["date"].to_numpy() - first).astype(np.int64)
    past = (night.as_of - night.first_day).days + 1
    n_days = past + night.reach
    inside = (cells >= 0) & (cells < n_days)
    dense = {name: np.full((1, n_days), np.nan) for name in COLUMNS[1:]}
    for name, values in dense.items():
        column = table[name].to_numpy(zero_copy_only=False).astype(np.float64)
        known = inside & ~np.isnan(column)
        values[0, cells[known]] = column[known]
    panel = Panel(
        store_ids=np.array([store_id], dtype=np.object_),
        item_ids=np.array([""], dtype=np.object_),
        first_day=night.first_day,
        sales=np.ascontiguousarray(dense["sales"][:, :past]),
        known_ahead={name: dense[name].astype(np.float32) for name in ("open", "promo")},
    )
    summary = summarise(panel, night.context, night.model.description.inputs)
    enough = summary.enough(night.minimum_days, night.fallback_after_days)[0]
    rows = []
    for target in night.target_dates:
        opened = panel.known_ahead["open"][0, panel.column(target)]
        if opened == 0:
            predicted = 0.0
        elif enough:
            matrix = features_at(summary, target, night.context)
            predicted = float(night.model.predict(matrix)[0])
        else:
            predicted = float(simple_rule(panel, np.array([0]), target)[0][0])
        rows.append({"store_id": store_id, "target_date": target, "predicted": predicted})
    return rows
