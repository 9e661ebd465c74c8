"""How a night differs from the nights before it, its cost, and the warnings that follow."""

from __future__ import annotations

import json
from datetime import date, timedelta

import pyarrow as pa
import pytest

from ray_job.bucket.parts import WrittenPart
from ray_job.bucket.releases import RELEASE_SCHEMA
from ray_job.forecasting.task import ChunkCost, ChunkResult
from ray_job.nightly.drift import drift
from ray_job.nightly.job_events import drift_fields, run_severity
from ray_job.nightly.receipt import chunk_times, estimate_cost
from ray_job.publishing.gates import judge
from ray_job.settings import Gates, Prices, Sanity
from tests.support.shop import LAST, STORES, midnight

DAY = timedelta(days=1)
AS_OF = date(2026, 3, 28)
REGIONS = {f"s{k:02d}": "north" if k < 10 else "south" for k in range(20)}


def store(name, **changes):
    return {
        "store_id": name,
        "outcome": "ok",
        "expected": True,
        "as_of": AS_OF,
        "data_through": AS_OF,
        "target_dates": [AS_OF + DAY, AS_OF + 2 * DAY],
        "predicted": [110.0, 0.0],
        "usual": [100.0, 0.0],
        "missing": ["", ""],
        **changes,
    }


def night(**changes):
    """The rows of twenty stores, ten in each region; `changes` has other values by store."""
    names = sorted(REGIONS)
    rows = [store(name, **changes.get(name, {})) for name in names]
    return pa.Table.from_pylist(rows, RELEASE_SCHEMA)


def drift_of(rows, **limits):
    return drift(rows, as_of=AS_OF, regions=REGIONS, limits=Sanity(**limits))


def test_a_usual_night_warns_of_nothing():
    measured = drift_of(night())
    assert measured.warnings == ()
    assert measured.total.stores == 20
    assert measured.total.forecast_per_store == pytest.approx(110.0)
    assert measured.total.ratio == pytest.approx(1.1)
    assert [(level.region, level.stores) for level in measured.regions] == [
        ("north", 10),
        ("south", 10),
    ]
    assert measured.data_through == {}


def test_a_store_that_has_sent_nothing_for_three_days_is_silent():
    measured = drift_of(
        night(
            s00={"data_through": AS_OF - 3 * DAY},
            s01={"data_through": AS_OF - 2 * DAY},
            s02={"data_through": AS_OF - 9 * DAY, "outcome": "closed"},
            s03={"data_through": AS_OF - 5 * DAY, "expected": False},
        )
    )
    assert measured.silent_stores == ("s00",)
    assert measured.silent_share == pytest.approx(1 / 19)
    assert measured.data_through == {
        AS_OF - 9 * DAY: 1,
        AS_OF - 3 * DAY: 1,
        AS_OF - 2 * DAY: 1,
    }
    assert measured.warnings == ("1 of 19 stores have sent no sales for 3 days or more: s00",)


def test_fewer_silent_stores_than_the_limit_are_counted_without_a_warning():
    measured = drift_of(night(s00={"data_through": AS_OF - 3 * DAY}), silent_share=0.06)
    assert measured.silent == 1
    assert measured.warnings == ()


def test_a_carried_store_that_is_silent_counts_too():
    old = {"as_of": AS_OF - DAY, "data_through": AS_OF - 4 * DAY, "outcome": "failed"}
    measured = drift_of(night(s00=old))
    assert (measured.silent, measured.carried_share) == (1, 0.05)
    assert len(measured.warnings) == 2


def test_shares_of_fallback_and_of_missing_weather():
    measured = drift_of(
        night(
            s00={"outcome": "fallback"},
            s01={"missing": ["promo,weather", ""]},
            s02={"missing": ["weather", "weather"]},
            s03={"missing": ["weatherproof", ""]},
        )
    )
    assert measured.fallback_share == pytest.approx(0.05)
    assert measured.missing_weather_share == pytest.approx(0.1)
    assert measured.warnings == ("10.0% of 20 stores lack the weather of a target date",)


def test_a_region_that_forecasts_far_more_than_usual_is_named():
    doubled = {f"s{k:02d}": {"predicted": [200.0, 0.0]} for k in range(10, 20)}
    measured = drift_of(night(**doubled))
    assert [round(level.ratio, 2) for level in measured.regions] == [1.1, 2.0]
    assert "region south are 2.00 times" in " ".join(measured.warnings)


def test_a_night_without_any_forecast():
    nothing = pa.Table.from_pylist(
        [{"store_id": "a", "outcome": "no_data", "expected": True}], RELEASE_SCHEMA
    )
    measured = drift_of(nothing)
    assert measured.total.ratio is None
    assert measured.warnings == ()


def test_stores_that_are_all_closed_have_no_level():
    closed = {
        name: {"predicted": [0.0, 0.0], "usual": [0.0, 0.0], "outcome": "closed"}
        for name in REGIONS
    }
    assert drift_of(night(**closed)).total.ratio is None


def test_receipt_and_event_say_which_stores_went_silent(shop):
    """One store in ten sends no sales. After three days the run names it, and still publishes."""
    as_of = LAST + 4 * DAY  # the first of these days is a Sunday
    open_stores = [name for name in STORES if name not in ("s002", "s009")]
    shop.deliver(
        [
            {"store_id": name, "date": LAST + k * DAY, "sales": 900.0}
            for name in open_stores
            for k in (1, 2, 3, 4)
        ],
        now=midnight(as_of),
    )
    receipt = shop.run(as_of)
    assert receipt.published
    assert receipt.drift.silent_stores == ("s002",)
    assert receipt.drift.warnings[0].startswith("1 of 10 stores have sent no sales for 3 days")
    assert receipt.cost.total > 0
    assert run_severity(receipt) == "WARNING"
    fields = drift_fields(receipt)
    assert fields["silent_stores"] == 1
    json.dumps(fields)


def result(cpu, seconds, memory=2**30, stores=10, *, adopted=False):
    outcomes = pa.table({"store_id": [str(k) for k in range(stores)]})
    return ChunkResult(
        "d",
        WrittenPart(outcomes, None, None, "r", midnight(LAST)),
        ChunkCost(seconds=seconds, cpu_seconds=cpu, peak_memory_bytes=memory),
        adopted=adopted,
    )


def test_cost_is_cpu_and_memory_at_their_prices():
    prices = Prices(currency="EUR", cpu_hour=0.36, memory_gib_hour=0.036)
    cost = estimate_cost(
        [result(10, 12), result(10, 14), result(99, 99, adopted=True)], 100, prices
    )
    assert cost.currency == "EUR"
    assert cost.cpu == pytest.approx(0.002)
    assert cost.memory == pytest.approx(0.001)
    assert cost.per_1000_stores == pytest.approx(0.15)


def test_no_prices_no_estimate():
    assert estimate_cost([result(1, 1)], 1, Prices(cpu_hour=0, memory_gib_hour=0)) is None
    assert estimate_cost([], 1, Prices()).per_1000_stores is None


def test_chunk_times_are_those_of_chunks_that_were_done():
    times = chunk_times([result(1, 3), result(1, 1), result(1, 2), result(1, 9, adopted=True)])
    assert (times.chunks, times.shortest, times.median, times.longest) == (3, 1, 2, 3)
    assert chunk_times([result(1, 9, adopted=True)]).chunks == 0


def test_gate_and_warning_judge_the_level_alike():
    """Both count a store that is open and forecast at 0: it has usual sales."""
    rows = night(**{f"s{k:02d}": {"predicted": [0.0, 0.0]} for k in range(20)})
    gate = next(
        gate
        for gate in judge(rows, None, as_of=AS_OF, known=set(REGIONS), limits=Gates())
        if gate.name == "level"
    )
    assert not gate.passed
    assert "the forecasts in all are 0.00 times the usual sales" in drift_of(rows).warnings
