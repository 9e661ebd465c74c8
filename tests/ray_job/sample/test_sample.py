"""Generated stores are repeatable, independent of each other, and have the documented effects."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import csv, parquet

from ray_job.bucket.errors import InputError
from ray_job.sample import Sample, SampleSpec, generate, iter_blocks, iter_sales
from ray_job.sample.files import write, write_blocks

LAST = date(2026, 6, 30)
SPEC = SampleSpec(last_day=LAST, big_store_items=300)
SMALL = SampleSpec(last_day=LAST, stores=7, days=60, items_per_store=100, big_store_items=150)
TABLES = ("sales", "known_ahead", "weather", "holidays", "stores")


@pytest.fixture(scope="module")
def sample() -> Sample:
    return generate(SPEC)


@pytest.fixture(scope="module")
def daily(sample: Sample) -> pd.DataFrame:
    """Sales of the stores without items, with weekday, region, format and weather."""
    frame = sample.sales.filter(pc.field("item_id") == "").to_pandas()
    frame = frame.merge(sample.stores.to_pandas(), on="store_id")
    frame = frame.merge(sample.weather.to_pandas(), on=["region", "date"])
    frame = frame.merge(sample.holidays.to_pandas(), on=["region", "date"], how="left")
    frame["weekday"] = pd.to_datetime(frame["date"]).dt.day_of_week
    return frame


def of_store(table: pa.Table, store_id: str) -> pa.Table:
    return table.filter(pc.field("store_id") == store_id).combine_chunks()


# Repeatable


def test_the_same_spec_gives_the_same_tables(sample):
    again = generate(SPEC)
    assert [getattr(again, name).equals(getattr(sample, name)) for name in TABLES] == [True] * 5


def test_another_seed_gives_other_sales_in_the_same_rows(sample):
    other = generate(replace(SPEC, seed=18))
    assert other.sales["date"][:1000].equals(sample.sales["date"][:1000])
    assert not other.sales["sales"].equals(sample.sales["sales"])
    assert not other.weather.equals(sample.weather)


def test_a_store_does_not_depend_on_the_other_stores(sample):
    few = generate(replace(SPEC, stores=12, big_store_items=None))
    for number in range(2, 13):
        store_id = f"s{number:03d}"
        for name in ("sales", "known_ahead", "stores"):
            table = of_store(getattr(sample, name), store_id)
            alone = of_store(getattr(few, name), store_id)
            assert alone.equals(table.select(alone.column_names))
    assert few.weather.equals(sample.weather)
    assert few.holidays.equals(sample.holidays)


def test_the_big_store_does_not_depend_on_the_other_stores(sample):
    alone = generate(replace(SPEC, stores=1))
    assert alone.sales.equals(of_store(sample.sales, "s001"))


@settings(max_examples=10, deadline=None)
@given(stores=st.integers(1, 9), rows=st.integers(1, 20_000))
def test_blocks_hold_the_same_rows_however_they_are_cut(stores, rows):
    whole = generate(SMALL)
    blocks = list(iter_blocks(SMALL, stores, rows))
    assert pa.concat_tables(block.sales for block in blocks).equals(whole.sales)
    assert pa.concat_tables(block.known_ahead for block in blocks).equals(whole.known_ahead)
    group_rows = 64 * (SMALL.days + SMALL.days_ahead)
    assert max(block.sales.num_rows for block in blocks) <= max(rows, group_rows)
    assert max(len(block.sales["store_id"].unique()) for block in blocks) <= stores


def test_blocks_of_a_huge_store_stay_bounded():
    spec = SampleSpec(last_day=LAST, stores=1, days=5000, big_store_items=500, days_ahead=0)
    rows = [table.num_rows for table in iter_sales(spec)]
    assert len(rows) > 1
    assert max(rows) <= 2_000_000
    assert sum(rows) == 500 * 5000


# Shape


def test_columns_and_types(sample):
    assert {name: getattr(sample, name).schema.to_string() for name in TABLES} == {
        "sales": "store_id: string\ndate: date32[day]\nitem_id: string\nsales: double\n"
        "open: int8\npromo: int8\ncustomers: int32",
        "known_ahead": "store_id: string\ndate: date32[day]\nitem_id: string\n"
        "open: int8\npromo: int8",
        "weather": "region: string\ndate: date32[day]\ntemperature_mean: double\n"
        "precipitation: double\nwind: double",
        "holidays": "region: string\ndate: date32[day]\nholiday: string",
        "stores": "store_id: string\nregion: string\nname: string\nformat: string\n"
        "size_m2: int64\nopened: date32[day]",
    }


def test_without_items_there_is_no_item_column():
    plain = generate(SampleSpec(last_day=LAST, stores=2, days=3, days_ahead=1))
    assert plain.sales.column_names == ["store_id", "date", "sales", "open", "promo", "customers"]
    assert plain.known_ahead.column_names == ["store_id", "date", "open", "promo"]


def test_only_the_first_store_is_big(sample):
    items = sample.sales.to_pandas().groupby("store_id")["item_id"].nunique()
    assert items["s001"] == 300
    assert set(items.drop("s001")) == {1}
    assert of_store(sample.sales, "s001")["item_id"][0].as_py() == "i000001"


def test_rows_are_sorted_unique_and_complete(sample):
    frame = sample.sales.to_pandas()
    keys = frame[["store_id", "item_id", "date"]]
    assert not keys.duplicated().any()
    assert keys.equals(keys.sort_values(["store_id", "item_id", "date"]))
    assert not frame.isna().any(axis=None)
    assert (frame["date"].min(), frame["date"].max()) == (SPEC.first_day, LAST)


def test_what_is_known_ahead_covers_each_series_on_each_day_ahead(sample):
    frame = sample.known_ahead.to_pandas()
    assert (frame["date"].min(), frame["date"].max()) == (
        LAST + timedelta(days=1),
        LAST + timedelta(days=14),
    )
    assert len(frame) == 14 * (300 + 39)
    assert sample.weather["date"].to_pandas().max() == LAST + timedelta(days=14)


@pytest.mark.parametrize(
    "wrong",
    [{"stores": 0}, {"days": 0}, {"big_store_items": 0}, {"days_ahead": -1}, {"days": 10_000}],
)
def test_a_spec_with_bad_numbers_is_refused(wrong):
    with pytest.raises(InputError):
        SampleSpec(last_day=LAST, **wrong)


# Effects


def test_sales_are_of_a_realistic_size(daily):
    means = daily[daily["open"] == 1].groupby("store_id")["sales"].mean()
    assert 500 < means.min() < means.max() < 20_000


def test_closed_days_sell_nothing(sample):
    frame = sample.sales.to_pandas()
    closed = frame[frame["open"] == 0]
    assert len(closed) > 1000
    assert (closed[["sales", "customers"]] == 0).all(axis=None)


def test_sundays_and_holidays_are_closed_except_in_stations(daily):
    shut = daily[(daily["weekday"] == 6) | daily["holiday"].notna()]
    opened = shut.groupby("format")["open"].mean()
    assert opened[["city", "suburb"]].eq(0).all()
    assert opened["station"] == 1
    assert set(shut.loc[shut["open"] == 1, "store_id"]) == {"s010", "s025", "s040"}


def test_promo_weeks_alternate_and_sell_more(daily):
    weeks = daily[daily["weekday"] == 2].groupby("date")["promo"].first()
    assert (weeks.iloc[1:].to_numpy() != weeks.iloc[:-1].to_numpy()).all()
    means = daily[daily["open"] == 1].pivot_table(index="weekday", columns="promo", values="sales")
    uplift = (means[1] / means[0]).dropna()
    assert len(uplift) == 6
    assert uplift.between(1.2, 1.5).all()


def test_weekdays_and_the_weeks_before_christmas_show(daily):
    usual = daily[(daily["open"] == 1) & (daily["promo"] == 0)]
    by_weekday = usual.groupby("weekday")["sales"].mean()
    assert by_weekday[5] > 1.1 * by_weekday[2]
    month = pd.to_datetime(usual["date"]).dt.month
    by_month = usual["sales"].groupby(month).mean()
    assert by_month[12] > 1.1 * by_month[11]
    assert by_month[6] > 1.1 * by_month[1]


def test_rain_keeps_customers_away(daily):
    opened = daily[(daily["open"] == 1) & (daily["weekday"] < 6)]
    logs = np.log(opened["sales"])
    month = pd.to_datetime(opened["date"]).dt.month
    usual = logs.groupby([opened["store_id"], opened["promo"], month]).transform("mean")
    effect = logs - usual
    rainy, dry = effect[opened["precipitation"] > 10], effect[opened["precipitation"] == 0]
    assert rainy.mean() < dry.mean() - 0.03


def test_customers_follow_sales(daily):
    open_days = daily[(daily["store_id"] == "s002") & (daily["open"] == 1)]
    assert np.corrcoef(open_days["sales"], open_days["customers"])[0, 1] > 0.9


def test_new_stores_have_short_histories(daily, sample):
    days = daily.groupby("store_id")["date"].agg(["count", "min"])
    assert tuple(days.loc["s005"]) == (3, LAST - timedelta(days=2))
    assert tuple(days.loc["s006"]) == (40, LAST - timedelta(days=39))
    opened = sample.stores.to_pandas().set_index("store_id")["opened"]
    assert opened["s005"] == LAST - timedelta(days=2)


def test_some_stores_miss_whole_weeks(daily):
    days = daily.groupby("store_id")["date"].nunique().drop(["s005", "s006"])
    with_gaps = days[days < SPEC.days]
    assert list(with_gaps.index) == ["s003", "s011", "s019", "s027", "s035"]
    assert ((SPEC.days - with_gaps) >= 7).all()
    recent = daily[daily["date"] > LAST - timedelta(days=14)]
    assert set(recent.groupby("store_id").size().drop("s005")) == {14}


def test_one_store_was_renovated_and_one_is_closed_now(daily, sample):
    renovated = daily[(daily["store_id"] == "s007") & (daily["open"] == 1)]
    longest = pd.to_datetime(renovated["date"]).diff().max()
    assert longest >= timedelta(days=120)
    assert renovated["date"].max() >= LAST - timedelta(days=1)
    closed = daily[(daily["store_id"] == "s009") & (daily["date"] > LAST - timedelta(days=10))]
    assert closed["open"].eq(0).all()
    ahead = sample.known_ahead.to_pandas()
    open_days = ahead.groupby("store_id")["open"].sum()
    assert list(open_days[open_days == 0].index) == ["s009"]


def test_items_have_returns_zipf_popularity_and_promos_of_their_own(sample):
    big = of_store(sample.sales, "s001").to_pandas()
    assert 0 < (big["sales"] < 0).mean() < 0.01
    assert set(big["customers"][big["sales"] < 0]) == {0}
    totals = big.groupby("item_id")["sales"].sum().sort_values(ascending=False)
    assert totals.iloc[:30].sum() > 0.4 * totals.sum()
    assert list(totals.index[:10]) != sorted(totals.index[:10])
    opened = big[big["open"] == 1]
    promoted = opened.groupby("date")["promo"].mean()
    assert promoted[promoted > 0].between(0.2, 0.5).all()
    means = opened.groupby("promo")["sales"].mean()
    assert means[1] > 1.5 * means[0]


# Files


def read(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return parquet.read_table(path)
    texts = ("store_id", "item_id", "region", "name", "format", "holiday")
    types = {name: pa.string() for name in texts}
    types |= {"sales": pa.float64(), "customers": pa.int32()}
    types |= dict.fromkeys(("open", "promo"), pa.int8())
    return csv.read_csv(path, convert_options=csv.ConvertOptions(column_types=types))


@pytest.mark.parametrize("format_", ["csv", "csv.gz", "parquet"])
def test_files_read_back_to_the_same_rows(tmp_path, format_):
    small = generate(SMALL)
    paths = write(small, tmp_path, format=format_)
    assert [str(path.relative_to(tmp_path)) for path in paths] == [
        f"sales-2026-05.{format_}",
        f"sales-2026-06.{format_}",
        f"known_ahead.{format_}",
        f"weather/weather.{format_}",
        f"holidays/holidays.{format_}",
        f"stores/stores.{format_}",
    ]
    keys = [(key, "ascending") for key in ("store_id", "item_id", "date")]
    sales = pa.concat_tables(read(path) for path in paths[:2]).sort_by(keys)
    assert sales.equals(small.sales.sort_by(keys))
    for name, path in zip(TABLES[1:], paths[2:], strict=True):
        assert read(path).equals(getattr(small, name))


def test_files_of_so_many_days_hold_those_days(tmp_path):
    plain = generate(SampleSpec(last_day=LAST, stores=3, days=10, days_ahead=0))
    paths = write(plain, tmp_path, days_per_file=4)
    assert [path.name for path in paths if path.parent == tmp_path] == [
        "sales-2026-06-21.csv",
        "sales-2026-06-25.csv",
        "sales-2026-06-29.csv",
    ]
    assert [read(path).num_rows for path in paths[:3]] == [12, 12, 6]
    assert set(read(paths[1])["date"].to_pylist()) == {date(2026, 6, day) for day in range(25, 29)}


def test_a_file_of_no_days_is_refused(tmp_path):
    plain = generate(SampleSpec(last_day=LAST, stores=1, days=2))
    with pytest.raises(InputError):
        write(plain, tmp_path, days_per_file=0)


@pytest.mark.parametrize("ahead", [0, 2])
def test_files_of_blocks_hold_the_rows_of_the_sample(tmp_path, ahead):
    spec = SampleSpec(last_day=LAST, stores=5, days=20, days_ahead=ahead)
    paths = write_blocks(spec, tmp_path, stores_per_block=2)
    whole = generate(spec)
    sales = [path for path in paths if path.name.startswith("sales-")]
    assert [path.name for path in sales] == [f"sales-{number:05d}.parquet" for number in (1, 2, 3)]
    assert pa.concat_tables(map(read, sales)).equals(whole.sales)
    known = [path for path in paths if path.name.startswith("known_ahead-")]
    assert sum(read(path).num_rows for path in known) == whole.known_ahead.num_rows
    assert read(tmp_path / "stores/stores.parquet").equals(whole.stores)
