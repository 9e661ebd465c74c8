"""Deliveries that are odd, late, repeated or wrong, and the forecasts that follow from them.

Where it is possible, a test compares the chain with a second one that got the right rows at once.
Both must have the same forecasts.
"""

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from ray_job import ingest, sample
from ray_job.bucket import keys
from ray_job.bucket.errors import InputError
from ray_job.bucket.storage import open_bucket
from ray_job.sample import files as sample_files
from ray_job.settings import Gates, Sales
from tests.support.shop import (
    DAY,
    LAST,
    SETTINGS,
    Shop,
    filled,
    generations,
    midnight,
    objects,
    sales_row,
)

NEW = "lone"
"""A store that the chain does not have: it has only the rows that a test delivers."""


@pytest.fixture
def other(tmp_path) -> Shop:
    """A second chain like the first, to compare with."""
    return Shop(filled(tmp_path / "other", objects()))


def history(days=90, **changes):
    """One row for each day up to LAST. `ago_3=7.0` makes 7 the sales of three days before LAST."""
    changed = {int(name.removeprefix("ago_")): value for name, value in changes.items()}
    return [
        {
            "store_id": NEW,
            "date": LAST - k * DAY,
            "sales": changed.get(k, 100.0 + 10 * ((LAST - k * DAY).weekday()) + k % 5),
            "open": 1,
            "promo": int(k % 14 < 6),
        }
        for k in range(days)
    ]


def forecast_of(shop, store=NEW):
    """A store's rows, its predictions by day, and the date through which its data go."""
    row = shop.stores()[store]
    assert row["outcome"] == "ok"
    return shop.forecast(store), row["predicted"], row["data_through"]


def test_columns_that_nobody_knows_change_no_forecast(shop, other):
    """They are stored, and no feature uses a column that is not known ahead."""
    strange = [
        row | {"mood": f"m{k % 3}", "till": 7.0 * k, "nothing": None}
        for k, row in enumerate(history())
    ]
    shop.deliver(strange)
    other.deliver(history())
    assert shop.run().exit_code == other.run().exit_code == 0
    assert shop.all_rows().equals(other.all_rows())
    (key,) = shop.partition_files(NEW)
    kept = pa.parquet.read_schema(pa.BufferReader(shop.storage.read(key))).names
    assert {"mood", "till"} <= set(kept)
    assert "nothing" not in kept
    shop.check()


def test_exact_duplicates_count_once(shop, other):
    shop.deliver([*history(), *history(), *history(30)])
    other.deliver(history())
    shop.run()
    other.run()
    assert forecast_of(shop) == forecast_of(other)
    assert shop.all_rows().equals(other.all_rows())


def test_conflicting_duplicates_are_refused_with_their_rows(shop):
    shop.run(LAST - DAY)
    before = generations(shop.storage)
    rows = [*history(5), *history(2, ago_1=7.0)]
    with pytest.raises(InputError, match=r"rows 2 and 7 have the same store_id, .* but differ"):
        shop.deliver(rows)
    assert generations(shop.storage) == before
    shop.run()
    assert NEW not in shop.stores()
    shop.check()


def test_gaps_are_days_of_which_nothing_is_known(shop, other):
    """A gap is not 0: the forecast stays at the level of the delivered days."""
    shop.deliver([row for k, row in enumerate(history()) if k % 9 and not 5 <= k < 26])
    other.deliver(history())
    shop.run()
    other.run()
    _, predicted, through = forecast_of(shop)
    assert through == LAST - DAY
    for with_gaps, without_gaps in zip(predicted, forecast_of(other)[1], strict=True):
        assert with_gaps == pytest.approx(without_gaps, rel=0.25)
    shop.check()


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_nan_and_infinity_are_no_sales(shop, value):
    shop.run(LAST - DAY)
    before = generations(shop.storage)
    with pytest.raises(
        InputError, match=rf'late\.csv: row 2: .*has the value "{value}", which is not'
    ):
        shop.deliver(f"store_id,date,sales\n{NEW},{LAST},{value}\n")
    assert generations(shop.storage) == before


def test_closed_on_a_target_date(shop):
    """The forecast is 0 on that day and on no other, with the method `closed`."""
    closed_day = sales_row(NEW, LAST + 3 * DAY, None, open=0)
    shop.deliver([*history(), closed_day])
    shop.run()
    row = shop.stores()[NEW]
    assert [method == "closed" for method in row["method"]] == [k == 2 for k in range(7)]
    assert [value == 0.0 for value in row["predicted"]] == [k == 2 for k in range(7)]
    assert (row["lower_80"][2], row["upper_80"][2]) == (0.0, 0.0)


def test_a_delivery_that_is_corrected_by_a_later_one(shop, other):
    """The correction counts column by column: a column that it leaves empty keeps its value."""
    wrong = {f"ago_{k}": 9_000.0 for k in range(10)}
    shop.deliver(history(**wrong), name="first")
    shop.run()
    at_first = forecast_of(shop)[1]
    right = [{name: row[name] for name in ("store_id", "date", "sales")} for row in history(10)]
    shop.deliver(right, name="second")
    other.deliver(history())
    receipt = shop.run(now=midnight(LAST) + timedelta(hours=1))
    other.run()
    assert receipt.status == "published"
    assert forecast_of(shop) == forecast_of(other)
    assert sum(at_first) > 1.3 * sum(forecast_of(shop)[1])
    shop.check()


def test_replaced_days_are_gone_with_all_their_items(shop, other):
    """With `--replace`, items that the new file does not name are removed from its days."""
    items = [row | {"item_id": item} for item in ("a", "b", "mistake") for row in history()]
    right = [row for row in items if row["item_id"] != "mistake"]
    shop.deliver(items, name="first")
    shop.run()
    assert set(shop.forecast(NEW)["item_id"].to_pylist()) == {"a", "b", "mistake"}
    shop.deliver(right, name="second", replace=True)
    other.deliver(right)
    shop.run(now=midnight(LAST) + timedelta(hours=1))
    other.run()
    assert forecast_of(shop) == forecast_of(other)
    assert set(shop.forecast(NEW)["item_id"].to_pylist()) == {"a", "b"}
    shop.check()


def test_transactions_of_a_day_in_two_files_add_up(shop, other):
    tills = [
        row | {"sales": row["sales"] * share, "promo": row["promo"]}
        for row in history()
        for share in (0.25, 0.5)
    ]
    evening = [row | {"sales": row["sales"] * 0.25} for row in history()]
    shop = shop.having(sales=Sales(rows="transactions"))
    shop.deliver(tills, name="morning")
    shop.deliver(evening, name="evening")
    other.deliver(history())
    shop.run()
    other.run()
    summed, at_once = forecast_of(shop), forecast_of(other)
    assert summed[1] == pytest.approx(at_once[1], rel=1e-6)
    assert summed[2] == at_once[2]
    shop.check()


@pytest.mark.parametrize(
    ("instants", "expected"),
    [
        pytest.param(
            # 23:59 and 00:30 of winter, then 23:59 and 00:00 of summer
            [
                "03-28T22:59",
                "03-28T23:30",
                "03-29T00:59",
                "03-29T01:00",
                "03-29T21:59",
                "03-29T22:00",
            ],
            {date(2026, 3, 28): 1, date(2026, 3, 29): 4, date(2026, 3, 30): 1},
            id="forward",
        ),
        pytest.param(
            # 23:59 and 00:00 of summer, twice 02:30, then 23:59 and 00:00 of winter
            [
                "10-24T21:59",
                "10-24T22:00",
                "10-25T00:30",
                "10-25T01:30",
                "10-25T22:59",
                "10-25T23:00",
            ],
            {date(2026, 10, 24): 1, date(2026, 10, 25): 4, date(2026, 10, 26): 1},
            id="back",
        ),
    ],
)
def test_sales_around_a_change_of_the_clocks_belong_to_their_local_day(shop, instants, expected):
    """Instants with a time zone, on a day of 23 hours and on a day of 25 hours."""
    shop = shop.having(sales=Sales(rows="transactions"))
    moments = [
        datetime.fromisoformat(f"2026-{instant}:00").replace(tzinfo=UTC) for instant in instants
    ]
    rows = {"store_id": [NEW] * len(moments), "date": moments, "sales": [1.0] * len(moments)}
    shop.deliver(pa.table(rows), now=max(moments))
    (key,) = shop.partition_files(NEW)
    stored = pa.parquet.read_table(pa.BufferReader(shop.storage.read(key)))
    assert (
        dict(zip(stored["date"].to_pylist(), stored["sales"].to_pylist(), strict=True)) == expected
    )


@pytest.mark.parametrize("as_of", [LAST, date(2026, 10, 24)])
def test_a_night_in_which_the_clocks_change(shop, as_of):
    """A night that begins before the change and is run again after it is written once."""
    if as_of != LAST:
        days = (as_of - LAST).days
        rows = [
            sales_row(store, LAST + k * DAY)
            for store in ("s002", "s003", "s004", "s006", "s007", "s008", "s010")
            for k in range(1, days + 1)
        ]
        shop = shop.having(gates=Gates(late_share=1.0, missing_share=1.0, mean_factor=1e9))
        shop.deliver(rows, now=midnight(as_of))
    start = datetime.combine(as_of + DAY, datetime.min.time(), SETTINGS.zone)
    receipt = shop.run(as_of, now=start + timedelta(minutes=5))
    assert receipt.status == "published"
    assert receipt.as_of == as_of
    before = generations(shop.storage)
    for hours in (1, 2, 3, 4):
        instant = (start.astimezone(UTC) + timedelta(hours=hours)).astimezone(SETTINGS.zone)
        assert shop.run(None, now=instant) == receipt
    assert generations(shop.storage) == before
    targets = sorted(set(shop.forecast("s010")["target_date"].to_pylist()))
    assert targets == [as_of + k * DAY for k in range(1, 8)]


def test_leading_zeros_are_another_store(shop):
    """`007` and `7` in one CSV file whose columns look like numbers."""
    lines = [
        f"{store},{LAST - k * DAY},{sales}"
        for store, sales in (("007", 7.0), ("7", 700.0))
        for k in range(60)
    ]
    shop.deliver("store_id,date,sales\n" + "\n".join(lines) + "\n")
    shop.run()
    assert shop.partition_files("007") != shop.partition_files("7")
    for store, level in (("007", 7.0), ("7", 700.0)):
        assert set(shop.forecast(store)["store_id"].to_pylist()) == {store}
        for value in shop.stores()[store]["predicted"]:
            assert value == pytest.approx(level, rel=0.5)
    shop.check()


@pytest.fixture(scope="module")
def december(tmp_path_factory):
    """A bucket with the same chain and model, whose last day with sales is Christmas Eve."""
    root = tmp_path_factory.mktemp("december") / "bucket"
    model = {key: data for key, data in objects().items() if key.startswith("models/")}
    storage = filled(root, model)
    spec = sample.SampleSpec(
        last_day=date(2026, 12, 24), stores=10, days=100, big_store_items=12, seed=5
    )
    sample_files.write(sample.generate(spec), root / keys.RAW_DATA, format="parquet")
    ingest.ingest(storage, SETTINGS, now=midnight(spec.last_day))
    return storage


def test_no_gate_fails_at_christmas(december):
    """All stores but the station are closed on three days, and nobody delivers sales of them."""
    shop = Shop(open_bucket(december.url))
    christmas_eve = date(2026, 12, 24)
    for night in range(4):
        receipt = shop.run(christmas_eve + night * DAY)
        assert (receipt.status, receipt.exit_code) == ("published", 0)
        assert all(gate.passed for gate in receipt.gates), receipt.gates
        for name, row in shop.stores().items():
            predicted = dict(zip(row["target_dates"], row["predicted"], strict=True))
            on_holidays = [
                predicted[day]
                for day in predicted
                if day in (christmas_eve + DAY, christmas_eve + 2 * DAY)
            ]
            if name != "s010":
                assert on_holidays == [0.0] * max(0, 2 - night), name
    shop.check()
