"""Ten thousand stores, one of which is poisoned: it costs itself, and is named."""

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
    """Thirty days of each store, at a level and with weekdays of its own."""
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
def chain(shop: Shop) -> Shop:
    """Ten thousand more stores, which are all that is expected; last night is published."""
    chain = shop.having(plan=Plan())
    shop.deliver(sales(), name="sales", now=midnight(LAST))
    for key in [info.key for info in shop.storage.list("context/stores/")]:
        shop.storage.delete(key, shop.storage.stat(key).generation)
    told = pa.table({"store_id": NAMES, "region": np.repeat("BE", STORES)})
    shop.deliver(told, name="stores", kind="stores", now=midnight(LAST) + timedelta(minutes=1))
    assert chain.run(LAST - DAY).exit_code == 0
    return chain


def poison(chain: Shop, stores: set[str]) -> dict[str, bytes]:
    """Cut their histories short; what they were."""
    files = [info.key for info in chain.storage.list(keys.BATCH_DATA)]
    theirs = [key for key in files if key.split("store_id=")[-1].split("/")[0] in stores]
    assert len(theirs) == len(stores)
    before = {key: chain.storage.read(key) for key in theirs}
    for key in theirs:
        chain.tamper(key, lambda data: data[: len(data) // 2])
    return before


@pytest.mark.timeout(600)  # twenty seconds of work, and ten thousand files on whatever disk
def test_one_poisoned_store_in_ten_thousand(chain):
    # One store more than the gate's share: nothing is published.
    pointer = chain.storage.read(keys.POINTER)
    before = poison(chain, {POISONED, *NAMES[: TOO_MANY - 1].tolist()})
    refused = chain.having(plan=Plan(chunk_rows=100_000)).run()
    assert (refused.status, refused.exit_code) == ("refused", 3)
    assert [gate.name for gate in refused.gates if not gate.passed] == ["missing_stores"]
    assert refused.message.startswith("101 of 10,000 stores have no forecast")
    assert chain.storage.read(keys.POINTER) == pointer
    # One store: all others are fresh.
    for key, data in before.items():
        if POISONED not in key:
            chain.tamper(key, lambda _, data=data: data)
    receipt = chain.run()
    assert (receipt.status, receipt.exit_code) == ("published_with_failures", 4)
    assert [one.store_id for one in receipt.failures] == [POISONED]
    assert receipt.failures[0].reason_code == "corrupt"
    assert (receipt.stores.expected, receipt.stores.carried) == (STORES, 1)
    assert (receipt.stores.ok, receipt.stores.failed) == (STORES - 1, 1)
    stores = chain.release().stores
    stores = stores.filter(stores["expected"])
    fresh = stores.filter(pc.equal(stores["as_of"], LAST))["store_id"].to_pylist()
    assert fresh == [name for name in NAMES if name != POISONED]
    (carried,) = stores.filter(pc.equal(stores["store_id"], POISONED)).to_pylist()
    assert (carried["as_of"], carried["carried_since"]) == (LAST - DAY, LAST)
    assert chain.rows_of(carried).num_rows == chain.settings.horizon
