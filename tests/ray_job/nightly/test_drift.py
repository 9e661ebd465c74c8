"""Whether a night looks like the nights before it, and who is told."""

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
    """Twenty stores, ten in each region; the first ones are changed, one for each of `changes`."""
    names = sorted(REGIONS)
    rows = [store(name, **changes.get(name, {})) for name in names]
    return pa.Table.from_pylist(rows, RELEASE_SCHEMA)


def look(rows, **limits):
    return drift(rows, as_of=AS_OF, regions=REGIONS, limits=Sanity(**limits))


def test_a_usual_night_warns_of_nothing():
    found = look(night())
    assert found.warnings == ()
    assert found.total.stores == 20
    assert found.total.forecast_per_store == pytest.approx(110.0)
    assert found.total.ratio == pytest.approx(1.1)
    assert [(one.region, one.stores) for one in found.regions] == [("north", 10), ("south", 10)]
    assert found.data_through == {}


def test_a_store_that_has_sent_nothing_for_three_days_is_silent():
    found = look(
        night(
            s00={"data_through": AS_OF - 3 * DAY},
            s01={"data_through": AS_OF - 2 * DAY},
            s02={"data_through": AS_OF - 9 * DAY, "outcome": "closed"},
            s03={"data_through": AS_OF - 5 * DAY, "expected": False},
        )
    )
    assert found.silent_stores == ("s00",)
    assert found.silent_share == pytest.approx(1 / 19)
    assert found.data_through == {
        AS_OF - 9 * DAY: 1,
        AS_OF - 3 * DAY: 1,
        AS_OF - 2 * DAY: 1,
    }
    assert found.warnings == ("1 of 19 stores have sent no sales for 3 days or more: s00",)


def test_fewer_silent_stores_than_the_limit_are_told_without_a_warning():
    found = look(night(s00={"data_through": AS_OF - 3 * DAY}), silent_share=0.06)
    assert found.silent == 1
    assert found.warnings == ()


def test_a_carried_store_that_is_silent_counts_too():
    old = {"as_of": AS_OF - DAY, "data_through": AS_OF - 4 * DAY, "outcome": "failed"}
    found = look(night(s00=old))
    assert (found.silent, found.carried_share) == (1, 0.05)
    assert len(found.warnings) == 2


def test_shares_of_fallback_and_of_missing_weather():
    found = look(
        night(
            s00={"outcome": "fallback"},
            s01={"missing": ["promo,weather", ""]},
            s02={"missing": ["weather", "weather"]},
            s03={"missing": ["weatherproof", ""]},
        )
    )
    assert found.fallback_share == pytest.approx(0.05)
    assert found.missing_weather_share == pytest.approx(0.1)
    assert found.warnings == ("10.0% of 20 stores lack the weather of a target date",)


def test_a_region_that_forecasts_far_more_than_usual_is_named():
    doubled = {f"s{k:02d}": {"predicted": [200.0, 0.0]} for k in range(10, 20)}
    found = look(night(**doubled))
    assert [round(one.ratio, 2) for one in found.regions] == [1.1, 2.0]
    assert "region south are 2.00 times" in " ".join(found.warnings)


def test_a_night_without_any_forecast():
    nothing = pa.Table.from_pylist(
        [{"store_id": "a", "outcome": "no_data", "expected": True}], RELEASE_SCHEMA
    )
    found = look(nothing)
    assert found.total.ratio is None
    assert found.warnings == ()


def test_stores_that_are_all_closed_have_no_level():
    shut = {
        name: {"predicted": [0.0, 0.0], "usual": [0.0, 0.0], "outcome": "closed"}
        for name in REGIONS
    }
    assert look(night(**shut)).total.ratio is None


def test_receipt_and_event_say_which_stores_went_silent(shop):
    """A store in ten stops sending; three nights later the run says so, and publishes."""
    as_of = LAST + 4 * DAY  # The first of the days is a Sunday.
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
    found = estimate_cost(
        [result(10, 12), result(10, 14), result(99, 99, adopted=True)], 100, prices
    )
    assert found.currency == "EUR"
    assert found.cpu == pytest.approx(0.002)
    assert found.memory == pytest.approx(0.001)
    assert found.per_1000_stores == pytest.approx(0.15)


def test_no_prices_no_estimate():
    assert estimate_cost([result(1, 1)], 1, Prices(cpu_hour=0, memory_gib_hour=0)) is None
    assert estimate_cost([], 1, Prices()).per_1000_stores is None


def test_chunk_times_are_those_of_chunks_that_were_done():
    found = chunk_times([result(1, 3), result(1, 1), result(1, 2), result(1, 9, adopted=True)])
    assert (found.chunks, found.shortest, found.median, found.longest) == (3, 1, 2, 3)
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
    assert "the forecasts in all are 0.00 times the usual sales" in look(rows).warnings
