"""Checks that a rival makes our predictions, since otherwise its time could not be compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from ray_job.bucket.storage import open_bucket
from ray_job.forecasting import chunk
from ray_job.nightly import run
from ray_job.nightly.request import RunRequest
from tests.benchmarks.data import NOW, measured

SAMPLE = 100
_TOLERANCE = 1e-9
"""Relative. Sums in another order differ in their last bits."""


def agreeing(bucket: str, horizon: int, frame: pd.DataFrame) -> int:
    """The number of compared predictions, of a sample of stores. Raises if any differs."""
    stores = sorted(frame["store_id"].unique())[:SAMPLE]
    storage = open_bucket(bucket)
    request = RunRequest(stores=stores)
    run_plan = run.prepare(storage, measured(Path(bucket), horizon), request, NOW)
    rows = [
        chunk._forecast(storage, planned.chunk, run_plan.spec).rows
        for planned in run_plan.planned_chunks
    ]
    ours = pa.concat_tables(rows).select(["store_id", "target_date", "predicted_sales"])
    rival_rows = frame.assign(target_date=pd.to_datetime(frame["target_date"]).dt.date)
    both = ours.to_pandas().merge(rival_rows, on=["store_id", "target_date"], validate="1:1")
    if len(both) != ours.num_rows:
        raise AssertionError(f"{ours.num_rows - len(both)} of {ours.num_rows} rows are missing")
    close = np.isclose(both["predicted"], both["predicted_sales"], rtol=_TOLERANCE, atol=_TOLERANCE)
    if not close.all():
        raise AssertionError(f"{(~close).sum()} predictions differ, as\n{both[~close].head()}")
    return len(both)
