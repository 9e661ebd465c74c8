"""Deliveries that are odd, late, double or wrong, seen from what readers get.

Where it is possible, a chain that got the odd deliveries is compared with one that got the right
rows at once: their forecasts are to be the same.
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
from tests.support.shop import DAY, LAST, SETTINGS, Shop, filled, generations, midnight, objects

NEW = "lone"
"""A store that no other test knows: what becomes of its deliveries is all that it has."""


@pytest.fixture
def other(tmp_path) -> Shop:
    """A second chain like the first, to compare with."""
    return Shop(filled(tmp_path / "other", objects()))


def history(days=90, **changes):
    """A row a day up to LAST; `changes` of the sales by how many days ago."""
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


def told(shop, store=NEW):
    """The forecast of a store, and what it is said to rest on."""
    row = shop.stores()[store]
    assert row["outcome"] == "ok"
    return shop.forecast(store), row["predicted"], row["data_through"]


def test_columns_that_nobody_knows_change_no_forecast(shop, other):
    """They are kept, and no feature touches what is not known ahead."""
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
    assert told(shop) == told(other)
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
    """A gap is no zero: the forecast stays at the level of the days that were delivered."""
    shop.deliver([row for k, row in enumerate(history()) if k % 9 and not 5 <= k < 26])
    other.deliver(history())
    shop.run()
    other.run()
    _, predicted, through = told(shop)
    assert through == LAST - DAY
    for mine, whole in zip(predicted, told(other)[1], strict=True):
        assert mine == pytest.approx(whole, rel=0.25)
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
    """Sold is 0 on that day and no other, and the method says so."""
    plan = [{"store_id": NEW, "date": LAST + 3 * DAY, "sales": None, "open": 0, "promo": 0}]
    shop.deliver([*history(), *plan])
    shop.run()
    row = shop.stores()[NEW]
    assert [method == "closed" for method in row["method"]] == [k == 2 for k in range(7)]
    assert [value == 0.0 for value in row["predicted"]] == [k == 2 for k in range(7)]
    assert (row["lower_80"][2], row["upper_80"][2]) == (0.0, 0.0)


def test_a_delivery_that_is_corrected_by_a_later_one(shop, other):
    """Column by column: what the correction leaves empty stays what it was."""
    wrong = {f"ago_{k}": 9_000.0 for k in range(10)}
    shop.deliver(history(**wrong), name="first")
    shop.run()
    at_first = told(shop)[1]
    right = [{name: row[name] for name in ("store_id", "date", "sales")} for row in history(10)]
    shop.deliver(right, name="second")
    other.deliver(history())
    receipt = shop.run(now=midnight(LAST) + timedelta(hours=1))
    other.run()
    assert receipt.status == "published"
    assert told(shop) == told(other)
    assert sum(at_first) > 1.3 * sum(told(shop)[1])
    shop.check()


def test_replaced_days_are_gone_with_all_their_items(shop, other):
    """With `--replace` items that the new file does not name are no part of its days any more."""
    items = [row | {"item_id": item} for item in ("a", "b", "mistake") for row in history()]
    right = [row for row in items if row["item_id"] != "mistake"]
    shop.deliver(items, name="first")
    shop.run()
    assert set(shop.forecast(NEW)["item_id"].to_pylist()) == {"a", "b", "mistake"}
    shop.deliver(right, name="second", replace=True)
    other.deliver(right)
    shop.run(now=midnight(LAST) + timedelta(hours=1))
    other.run()
    assert told(shop) == told(other)
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
    mine, whole = told(shop), told(other)
    assert mine[1] == pytest.approx(whole[1], rel=1e-6)
    assert mine[2] == whole[2]
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
    """Instants with a zone, on a day of 23 hours and on one of 25."""
    shop = shop.having(sales=Sales(rows="transactions"))
    moments = [datetime.fromisoformat(f"2026-{one}:00").replace(tzinfo=UTC) for one in instants]
    rows = {"store_id": [NEW] * len(moments), "date": moments, "sales": [1.0] * len(moments)}
    shop.deliver(pa.table(rows))
    (key,) = shop.partition_files(NEW)
    stored = pa.parquet.read_table(pa.BufferReader(shop.storage.read(key)))
    assert (
        dict(zip(stored["date"].to_pylist(), stored["sales"].to_pylist(), strict=True)) == expected
    )


@pytest.mark.parametrize("as_of", [LAST, date(2026, 10, 24)])
def test_a_night_in_which_the_clocks_change(shop, as_of):
    """Begun before the change and again after it, it is the same night, and written once."""
    if as_of != LAST:
        days = (as_of - LAST).days
        rows = [
            {"store_id": store, "date": LAST + k * DAY, "sales": 900.0, "open": 1, "promo": 0}
            for store in ("s002", "s003", "s004", "s006", "s007", "s008", "s010")
            for k in range(1, days + 1)
        ]
        shop = shop.having(gates=Gates(late_share=1.0, missing_share=1.0, mean_factor=1e9))
        shop.deliver(rows, now=midnight(as_of))
    begun = datetime.combine(as_of + DAY, datetime.min.time(), SETTINGS.zone)
    receipt = shop.run(as_of, now=begun + timedelta(minutes=5))
    assert receipt.status == "published"
    assert receipt.as_of == as_of
    before = generations(shop.storage)
    for hours in (1, 2, 3, 4):
        instant = (begun.astimezone(UTC) + timedelta(hours=hours)).astimezone(SETTINGS.zone)
        assert shop.run(None, now=instant) == receipt
    assert generations(shop.storage) == before
    targets = sorted(set(shop.forecast("s010")["target_date"].to_pylist()))
    assert targets == [as_of + k * DAY for k in range(1, 8)]


def test_leading_zeros_are_another_store(shop):
    """`007` and `7` in one CSV file, whose columns look like numbers."""
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
    """A bucket of the same chain and model, whose last day with sales is Christmas Eve."""
    root = tmp_path_factory.mktemp("december") / "bucket"
    model = {key: data for key, data in objects().items() if key.startswith("models/")}
    storage = filled(root, model)
    spec = sample.SampleSpec(
        last_day=date(2026, 12, 24), stores=10, days=100, big_store_items=12, seed=5
    )
    sample_files.write(sample.generate(spec), root / keys.RAW_DATA, format="parquet")
    ingest.ingest(storage, SETTINGS, now=midnight(spec.last_day))
    return storage


def test_christmas_sets_off_no_gate(december):
    """Everything but the station is shut on three days, of which nobody delivers anything."""
    shop = Shop(open_bucket(december.url))
    eve = date(2026, 12, 24)
    for night in range(4):
        receipt = shop.run(eve + night * DAY)
        assert (receipt.status, receipt.exit_code) == ("published", 0)
        assert all(gate.passed for gate in receipt.gates), receipt.gates
        for name, row in shop.stores().items():
            days = dict(zip(row["target_dates"], row["predicted"], strict=True))
            shut = [days[day] for day in days if day in (eve + DAY, eve + 2 * DAY)]
            if name != "s010":
                assert shut == [0.0] * max(0, 2 - night), name
    shop.check()
