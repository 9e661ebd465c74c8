"""Ten thousand stores, one of them with a damaged history: only that one fails, and it is named."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ray_job.bucket import keys
from ray_job.settings import Plan
from tests.support.shop import DAY, LAST, Shop, midnight

STORES = 10_000
DAYS = 30
NAMES = np.array([f"n{number:05d}" for number in range(STORES)])
POISONED = "n04711"
TOO_MANY = int(STORES * 0.01) + 1


def sales() -> pa.Table:
    """Thirty days of each store; each store has its own level and its own pattern of weekdays."""
    rng = np.random.default_rng(3)
    days = np.datetime64(LAST) - np.arange(DAYS)[::-1]
    level = rng.uniform(500, 5_000, STORES)[:, None] * rng.uniform(0.8, 1.2, (STORES, 7))
    return pa.table(
        {
            "store_id": np.repeat(NAMES, DAYS),
            "date": pa.array(np.tile(days, STORES).astype("datetime64[D]")),
            "sales": np.round(level[:, np.arange(DAYS) % 7].ravel(), 2),
            "open": np.ones(STORES * DAYS),
            "promo": np.zeros(STORES * DAYS),
        }
    )


@pytest.fixture
def ten_thousand_stores(shop: Shop) -> Shop:
    """Ten thousand stores beside the chain's, which are not expected; last night is published."""
    shop.deliver(sales(), name="sales", now=midnight(LAST))
    shop.delete("context/stores/")
    regions = pa.table({"store_id": NAMES, "region": np.repeat("BE", STORES)})
    shop.deliver(regions, name="stores", kind="stores", now=midnight(LAST) + timedelta(minutes=1))
    large = shop.having(plan=Plan())
    assert large.run(LAST - DAY).exit_code == 0
    return large


def poison(shop: Shop, stores: set[str]) -> dict[str, bytes]:
    """Cut the histories of these stores short. Returns the bytes before, by key."""
    files = [info.key for info in shop.storage.list(keys.BATCH_DATA)]
    damaged_keys = [key for key in files if key.split("store_id=")[-1].split("/")[0] in stores]
    assert len(damaged_keys) == len(stores)
    before = {key: shop.storage.read(key) for key in damaged_keys}
    for key in damaged_keys:
        shop.tamper(key, lambda data: data[: len(data) // 2])
    return before


@pytest.mark.timeout(600)  # 20 s on a quick disk
def test_one_poisoned_store_in_ten_thousand(ten_thousand_stores):
    shop = ten_thousand_stores
    # With one bad store more than the gate allows nothing is published.
    pointer = shop.storage.read(keys.POINTER)
    before = poison(shop, {POISONED, *NAMES[: TOO_MANY - 1].tolist()})
    refused = shop.having(plan=Plan(chunk_rows=100_000)).run()
    assert (refused.status, refused.exit_code) == ("refused", 3)
    assert [gate.name for gate in refused.gates if not gate.passed] == ["missing_stores"]
    assert refused.message.startswith("101 of 10,000 stores have no forecast")
    assert shop.storage.read(keys.POINTER) == pointer
    # With one bad store all others get a new forecast.
    for key, data in before.items():
        if POISONED not in key:
            shop.tamper(key, lambda _, data=data: data)
    receipt = shop.run()
    assert (receipt.status, receipt.exit_code) == ("published_with_failures", 4)
    assert [failure.store_id for failure in receipt.failures] == [POISONED]
    assert receipt.failures[0].reason_code == "corrupt"
    assert (receipt.stores.expected, receipt.stores.carried) == (STORES, 1)
    assert (receipt.stores.ok, receipt.stores.failed) == (STORES - 1, 1)
    stores = shop.release().stores
    stores = stores.filter(stores["expected"])
    fresh = stores.filter(pc.equal(stores["as_of"], LAST))["store_id"].to_pylist()
    assert fresh == [name for name in NAMES if name != POISONED]
    (carried,) = stores.filter(pc.equal(stores["store_id"], POISONED)).to_pylist()
    assert (carried["as_of"], carried["carried_since"]) == (LAST - DAY, LAST)
    assert shop.rows_of(carried).num_rows == shop.settings.horizon
