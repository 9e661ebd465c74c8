"""Unreadable histories: each costs its own store only, and receipt and release name it."""

import resource
import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from ray_job.bucket import keys, parts
from ray_job.bucket.errors import InputError, StorecastError
from ray_job.nightly.request import RunRequest
from ray_job.nightly.run import prepare
from ray_job.settings import Plan
from tests.support.faults import rewritten
from tests.support.shop import (
    BIG,
    DAY,
    LAST,
    STORES,
    generations,
    midnight,
    sales_row,
    snapshot,
    stores_csv,
)

BAD = "s004"


def corrupted(data):
    middle = len(data) // 3
    return (
        data[:middle]
        + bytes(byte ^ 0xFF for byte in data[middle : middle + 40])
        + data[middle + 40 :]
    )


def as_text(table):
    index = table.schema.get_field_index("sales")
    return table.set_column(index, "sales", table["sales"].cast(pa.string()))


RUBBISH = {
    "corrupt": (corrupted, "corrupt", "cannot be read"),
    "truncated": (lambda data: data[: len(data) // 2], "corrupt", "cannot be read"),
    "a damaged footer": (
        lambda data: data.replace(b'"op": "set"', b'"op": "sat"'),
        "corrupt",
        "its footer is damaged",
    ),
    "empty": (lambda _: b"", "corrupt", "cannot be read"),
    "no Parquet": (lambda _: b"store_id,date,sales\n", "corrupt", "cannot be read"),
    "a wrong type": (rewritten(as_text), "bad_column", "column 'sales' is of type string"),
    "a missing column": (
        rewritten(lambda table: table.drop_columns(["sales"])),
        "bad_column",
        "the column 'sales' is missing",
    ),
}


def check_bad(receipt, shop, store=BAD, last_good=LAST - DAY):
    assert (receipt.status, receipt.exit_code) == ("published_with_failures", 4)
    assert [failure.store_id for failure in receipt.failures] == [store]
    assert receipt.failures[0].last_good_as_of == last_good
    stores = shop.stores()
    assert (stores[store]["outcome"], stores[store]["as_of"]) == ("failed", last_good)
    assert stores[store]["carried_since"] == LAST
    assert {row["as_of"] for name, row in stores.items() if name != store} == {LAST}
    # Release, receipt and the outcomes of the chunk's part have the same record.
    fields = ("reason_code", "reason", "attempt")
    assert receipt.failures[0].attempt == 1
    assert [getattr(receipt.failures[0], name) for name in fields] == [
        stores[store][name] for name in fields
    ]
    decoded_parts = [parts.decode(shop.storage.read(key), key) for key in shop.part_keys()]
    rows = [
        row
        for part in decoded_parts
        for row in part.outcomes.to_pylist()
        if row["store_id"] == store
    ]
    # Some ranges of a store that is cut may be readable.
    allowed = {None} if store == BIG else set()
    code = receipt.failures[0].reason_code
    assert code in {row["reason_code"] for row in rows} <= {code} | allowed
    assert receipt.failures[0].reason in {row["reason"] for row in rows}
    shop.check()


@pytest.mark.parametrize("damage", RUBBISH)
def test_a_partition_that_is_rubbish(shop, damage):
    shop.run(LAST - DAY)
    change, code, reason = RUBBISH[damage]
    (key, *_) = shop.partition_files(BAD)
    shop.tamper(key, change)
    receipt = shop.run()
    check_bad(receipt, shop)
    assert receipt.failures[0].reason_code == code
    assert key in receipt.failures[0].reason
    assert reason in receipt.failures[0].reason
    before = generations(shop.storage)
    assert shop.run() == receipt
    assert generations(shop.storage) == before


@pytest.mark.parametrize("damage", ["corrupt", "truncated", "empty"])
def test_a_big_store_is_carried_whole(shop, damage):
    shop.run(LAST - DAY)
    last_good = shop.forecast(BIG)
    for key in shop.partition_files(BIG):
        shop.tamper(key, RUBBISH[damage][0])
    check_bad(shop.run(), shop, BIG)
    assert shop.forecast(BIG).equals(last_good)


def test_a_lost_file_costs_its_store(shop):
    shop.run(LAST - DAY)
    (key, *_) = shop.partition_files(BAD)
    shop.delete(key)
    receipt = shop.run()
    check_bad(receipt, shop)
    assert receipt.failures[0].reason_code == "gone"


def test_an_unexpected_error_costs_its_store(shop):
    """A column of an unchecked kind makes the reading of its chunk raise.

    The chunk is halved, and its halves are read anew, until the store is alone.
    """
    shop = shop.having(plan=Plan(chunk_rows=700))
    shop.deliver([sales_row(BAD, LAST)])
    shop.run(LAST - DAY)

    def with_texts(table):
        index = table.schema.get_field_index("promo")
        table = table.set_column(index, "promo", pa.array([["soon"]] * table.num_rows))
        # The footer has constant columns, which a reader then does not decode.
        return table.replace_schema_metadata(None)

    shop.tamper(shop.partition_files(BAD)[0], rewritten(with_texts))
    run_plan = prepare(shop.storage, shop.settings, RunRequest(as_of=LAST), midnight(LAST))
    (bad_chunk,) = [
        planned.chunk for planned in run_plan.planned_chunks if BAD in planned.chunk.store_ids
    ]
    assert bad_chunk.n_stores > 1
    receipt = shop.run()
    check_bad(receipt, shop)
    assert receipt.failures[0].reason_code == "error"
    assert receipt.failures[0].reason.startswith("ArrowInvalid: ")
    stores_of_chunks = {chunk.digest: chunk.stores for chunk in receipt.chunks}
    assert stores_of_chunks[bad_chunk.digest] == bad_chunk.n_stores
    before = generations(shop.storage)
    assert shop.run() == receipt
    assert generations(shop.storage) == before


def test_when_every_store_is_rubbish_nothing_is_published(shop):
    shop.run(LAST - DAY)
    pointer = shop.storage.read(keys.POINTER)
    for store in STORES:
        for key in shop.partition_files(store):
            shop.tamper(key, lambda _: b"")
    receipt = shop.run()
    assert (receipt.status, receipt.exit_code) == ("refused", 3)
    assert "10 of 10 stores have no forecast" in receipt.message
    assert shop.storage.read(keys.POINTER) == pointer
    shop.check()


def test_a_table_without_a_required_column_is_refused_before_any_work(shop):
    shop.run(LAST - DAY)
    shutil.rmtree(shop.storage.root / keys.BATCH_DATA)
    rows = {"store_id": ["s001"], "item_id": [""], "date": [LAST], "sales": [1.0]}
    write_deltalake(
        str(shop.storage.root / keys.BATCH_DATA), pa.table(rows), partition_by=["store_id"]
    )
    before = generations(shop.storage)
    with pytest.raises(InputError, match="batch_data: the table has no column 'delivered_at'"):
        shop.run()
    assert generations(shop.storage) == before


def test_more_failures_than_the_gate_allows(shop):
    shop.run(LAST - DAY)
    pointer = shop.storage.read(keys.POINTER)
    for store in ("s002", "s003"):
        shop.tamper(shop.partition_files(store)[0], corrupted)
    receipt = shop.run()
    assert (receipt.status, receipt.exit_code, receipt.published) == ("refused", 3, False)
    assert [gate.name for gate in receipt.gates if not gate.passed] == ["missing_stores"]
    assert shop.storage.read(keys.POINTER) == pointer
    forced = shop.run(force=True)
    assert (forced.status, forced.exit_code) == ("published_with_failures", 4)
    assert shop.release().header.forced
    shop.check()


def test_nan_and_infinity_in_a_partition(shop):
    """Ingest refuses both. In a partition NaN is an unknown day, and infinity fails its store."""
    shop.run(LAST - DAY)

    def with_value(value):
        def change(table):
            sales = np.array(table["sales"])
            sales[-20] = value
            return table.set_column(table.schema.get_field_index("sales"), "sales", pa.array(sales))

        return rewritten(change)

    shop.tamper(shop.partition_files("s003")[0], with_value(np.nan))
    shop.tamper(shop.partition_files(BAD)[0], with_value(np.inf))
    receipt = shop.run()
    assert {failure.store_id for failure in receipt.failures} <= {BAD}
    rows = shop.all_rows()
    for name in ("predicted_sales", "lower_80", "upper_80"):
        assert np.isfinite(np.array(rows[name])).all()
    shop.check()


def test_returns_are_kept_and_predictions_are_not_negative(shop):
    shop.deliver([sales_row(BAD, LAST - k * DAY, -500.0) for k in range(40)])
    shop.run()
    assert min(shop.forecast(BAD)["predicted_sales"].to_pylist()) >= 0
    assert min(shop.stores()[BAD]["predicted"]) >= 0


def test_days_after_the_as_of_do_not_leak(shop):
    shop.run(LAST - 5 * DAY, now=midnight(LAST))
    before = shop.all_rows()
    rows = [sales_row(store, LAST - k * DAY, 1e6) for k in range(5) for store in STORES[1:4]]
    shop.deliver(rows)
    shop.run(LAST - 5 * DAY, now=midnight(LAST), force=True)
    after = shop.all_rows()
    columns = ["store_id", "target_date", "predicted_sales", "data_through"]
    opened = pa.compute.not_equal(before["method"], "closed")
    assert before.filter(opened).num_rows > 50
    # The new rows also say that the stores are open on the target dates, Sunday included.
    opened_in_both = pa.compute.and_(opened, pa.compute.not_equal(after["method"], "closed"))
    unchanged_stores = ~np.isin(before["store_id"].to_numpy(zero_copy_only=False), STORES[1:4])
    assert (
        before.filter(pa.array(unchanged_stores))
        .select(columns)
        .equals(after.filter(pa.array(unchanged_stores)).select(columns))
    )
    predicted = np.array(after.filter(opened_in_both)["predicted_sales"])
    assert predicted.max() < 1e5


def test_new_short_and_closed_stores(shop):
    rows = [
        *({"store_id": "new", "date": LAST - k * DAY, "sales": 50.0, "open": 1} for k in range(3)),
        {"store_id": "007", "date": LAST, "sales": 7.0, "open": 1},
        {"store_id": "7", "date": LAST, "sales": 700.0, "open": 1},
        *({"store_id": "ahead", "date": LAST + k * DAY, "sales": None, "open": 1} for k in (1, 2)),
        {"store_id": "unopened", "date": LAST, "sales": 0.0, "open": 0},
    ]
    shop.deliver(pa.Table.from_pylist(rows))
    receipt = shop.run()
    assert receipt.exit_code == 0
    stores = shop.stores()
    assert stores["new"]["outcome"] == "fallback"
    assert max(stores["new"]["predicted"]) == pytest.approx(50.0)
    assert stores["007"]["predicted"][1] == pytest.approx(7.0)
    assert stores["7"]["predicted"][1] == pytest.approx(700.0)
    assert (stores["ahead"]["outcome"], stores["ahead"]["parts"]) == ("no_data", None)
    assert stores["unopened"]["outcome"] == "no_data"
    assert stores["s009"]["outcome"] == "closed"
    assert stores["s002"]["method"][0] == "closed"  # on Sunday
    shop.check()


def test_a_store_that_is_closed_for_good(shop):
    shop.run(LAST - DAY)
    later = midnight(LAST) + timedelta(minutes=1)
    shop.deliver(stores_csv(STORES, "s009"), kind="stores", now=later)
    receipt = shop.run()
    assert receipt.status == "published"
    assert receipt.stores.expected == 9
    assert shop.stores()["s009"]["expected"] is False


def test_a_store_that_vanishes_from_the_table(shop):
    shop.run(LAST - DAY)
    shop.delete("context/stores/")
    later = midnight(LAST) + timedelta(minutes=1)
    shop.deliver(stores_csv(STORES[1:]), kind="stores", now=later)
    receipt = shop.run()
    assert (receipt.status, receipt.exit_code) == ("refused", 3)
    assert "not any more" in receipt.message
    assert BIG in receipt.message


@pytest.mark.parametrize("kind", ["weather", "holidays"])
def test_context_that_nobody_delivered(shop, kind):
    shop.delete(f"context/{kind}/")
    receipt = shop.run()
    assert (receipt.status, receipt.stores.ok) == ("published", 8)
    missing = shop.stores()["s002"]["missing"]
    assert all("weather" in day for day in missing) is (kind == "weather")


def test_no_promo_plan(shop):
    """No column is known ahead. Stores count as open, and each day names its missing columns."""
    shop.deliver([sales_row("lone", LAST - k * DAY, 9.0, promo=k % 2) for k in range(60)])
    shop.run()
    row = shop.stores()["lone"]
    assert row["outcome"] == "ok"
    assert all(day.startswith("open,promo") for day in row["missing"])


def test_no_gate_fails_at_easter(shop):
    """Stores are closed on Good Friday, Easter Sunday and Monday, and deliver nothing then."""
    receipt = shop.run()
    assert all(gate.passed for gate in receipt.gates)
    on_good_friday = [row["predicted"][5] for name, row in shop.stores().items() if name != "s010"]
    assert on_good_friday == [0.0] * 9  # 3 April 2026


def test_a_disk_that_is_full(shop):
    """A limit on the length of files acts like a full disk: no reader sees a part of a file."""
    shop = shop.having(plan=Plan(chunk_rows=10_000_000))
    shop.run(LAST - DAY)
    before = snapshot(shop.storage)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, hard))
    try:
        with pytest.raises(StorecastError, match="File too large"):
            shop.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    after = snapshot(shop.storage)
    assert after[keys.POINTER] == before[keys.POINTER]
    assert not [path for path in Path(shop.storage.url).rglob(".storecast-*") if path.suffix == ""]
    shop.check()
    assert shop.run().status == "published"


def test_unicode_and_formulas_are_items(shop):
    items = ["=1+1", 'ü,"x"\n', "@sum", "007", "7", "-", "日本"]
    rows = [
        {"store_id": "bazaar", "item_id": item, "date": LAST - k * DAY, "sales": 3.0, "open": 1}
        for item in items
        for k in range(30)
    ]
    shop.deliver(rows)
    shop.run()
    stored_items = shop.forecast("bazaar")["item_id"].unique().to_pylist()
    assert stored_items == sorted(items, key=lambda item: item.encode())


def test_the_histories_are_missing(shop):
    shop.delete(keys.BATCH_DATA)
    with pytest.raises(InputError, match="there are no histories"):
        shop.run()
