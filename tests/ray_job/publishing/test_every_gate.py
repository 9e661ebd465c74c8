"""Every gate refuses in some case, and every limit of the settings loosens one gate."""

from __future__ import annotations

from datetime import date, timedelta

import pyarrow as pa
import pytest

from ray_job.bucket.receipts import Gate
from ray_job.bucket.releases import RELEASE_SCHEMA
from ray_job.publishing import gates
from ray_job.settings import Gates

AS_OF = date(2026, 12, 22)
BEFORE = AS_OF - timedelta(days=1)


def release(stores: list[str], *, as_of: date = AS_OF, factor: float = 1.0) -> pa.Table:
    rows = [
        {
            "store_id": store,
            "outcome": "ok",
            "expected": True,
            "as_of": as_of,
            "data_through": AS_OF,
            "target_dates": [AS_OF + timedelta(days=1)],
            "predicted": [10.0 * factor],
            "usual": [10.0],
        }
        for store in stores
    ]
    return pa.Table.from_pylist(rows, schema=RELEASE_SCHEMA)


FOUR = ["1", "2", "3", "4"]
GOOD = release(FOUR)
CASES = {
    "missing_stores": (release(FOUR, as_of=BEFORE), GOOD, {"missing_share": 1.0}),
    "late_stores": (
        GOOD.set_column(
            GOOD.column_names.index("data_through"),
            "data_through",
            pa.array([BEFORE] * 4, pa.date32()),
        ),
        GOOD,
        {"late_share": 1.0},
    ),
    "vanished_stores": (GOOD, release([*FOUR, "5"]), {"vanished_stores": 1}),
    "level": (release(FOUR, factor=3.0), GOOD, {"mean_factor": 4.0}),
}
"""For each gate: rows that it refuses, the base, and a limit that lets the rows pass."""


def judged(rows: pa.Table, base: pa.Table, limits: Gates) -> dict[str, Gate]:
    judgement = gates.judge(rows, base, as_of=AS_OF, known=FOUR, limits=limits)
    return {gate.name: gate for gate in judgement}


def test_every_gate_and_every_limit_has_a_case():
    assert set(judged(GOOD, GOOD, Gates())) == set(CASES)
    assert {limit for _, _, limits in CASES.values() for limit in limits} == set(Gates.model_fields)


@pytest.mark.parametrize("name", CASES)
def test_a_gate_refuses_and_its_limit_loosens_it(name):
    rows, base, limits = CASES[name]
    assert judged(GOOD, GOOD, Gates())[name].passed
    assert not judged(rows, base, Gates())[name].passed
    assert judged(rows, base, Gates(**limits))[name].passed
