"""`explain` after nights that went wrong: the sources of a number, or the reason of its absence."""

from datetime import timedelta

import pytest

from ray_job.bucket import keys, receipts
from ray_job.bucket.errors import InputError
from ray_job.operations.explain import explain
from ray_job.operations.rollback import rollback
from tests.support.shop import BIG, DAY, LAST, midnight


def test_explain(shop):
    first = shop.run(LAST - DAY)
    for key in shop.partition_files("s004"):
        shop.tamper(key, lambda _: b"")
    receipt = shop.run()
    noon = midnight(LAST) + timedelta(hours=11)
    explanation = explain(shop.storage, shop.settings, "s004", None, noon)
    assert explanation["outcome"] == "failed"
    assert explanation["reason_code"] == "corrupt"
    assert explanation["reason"] == receipt.failures[0].reason
    assert (explanation["as_of"], explanation["carried_since"], explanation["run_id"]) == (
        LAST - DAY,
        LAST,
        first.run_id,
    )
    assert (explanation["release"], explanation["release_as_of"]) == (receipt.release, LAST)
    assert explanation["stale"] is True
    assert explanation["parts"][0]["part"] in shop.part_keys(LAST - DAY)
    assert {file["key"] for file in explanation["input_files"]} == set(shop.partition_files("s004"))
    assert explanation["model_version"] == "tiny"
    assert explanation["receipt"]["status"] == "published"
    assert len(explanation["days"]) == 7
    fresh = explain(shop.storage, shop.settings, BIG, None, noon)
    assert (fresh["outcome"], fresh["stale"], fresh["data_age_days"]) == ("ok", False, 0)
    explanation_of_before = explain(shop.storage, shop.settings, "s004", LAST - DAY, noon)
    assert explanation_of_before["outcome"] == "ok"


def test_explain_names_the_gate_and_the_hold(shop):
    shop.run(LAST - DAY)
    for store in ("s002", "s003", "s004"):
        for key in shop.partition_files(store):
            shop.tamper(key, lambda _: b"")
    refused = shop.run()
    assert refused.status == "refused"
    explanation = explain(shop.storage, shop.settings, "s002", None, midnight(LAST))
    assert explanation["as_of"] == LAST - DAY
    assert explanation["unpublished_runs"][0]["status"] == "refused"
    assert "3 of 10 stores" in explanation["unpublished_runs"][0]["message"]
    assert explanation["unpublished_runs"][0]["failure"]["reason_code"] == "corrupt"
    assert receipts.of_night(shop.storage, LAST) == [refused]
    with pytest.raises(InputError, match=r"as of 2026-03-28; refused: 3 of 10 stores"):
        explain(shop.storage, shop.settings, "s002", LAST, midnight(LAST))
    shop.run(LAST, force=True)
    rollback(shop.storage)
    assert shop.run(LAST, now=midnight(LAST) + timedelta(hours=1)).status == "held"
    explanation = explain(shop.storage, shop.settings, "s002", None, midnight(LAST))
    assert explanation["hold_through"] == LAST
    assert [run["status"] for run in explanation["unpublished_runs"]] == ["held", "refused"]


def test_explain_lists_one_night(gcs_shop, gcs):
    """`explain` lists the receipts of one night, and nothing else under results/."""
    shop = gcs_shop
    for back in (2, 1, 0):
        shop.run(LAST - back * DAY)
    gcs.log.clear()
    explain(shop.storage, shop.settings, "s002", None, midnight(LAST))
    prefixes = {entry.query.get("prefix", "") for entry in gcs.log.select(op="list")}
    assert {prefix for prefix in prefixes if prefix.startswith("results/")} == {
        keys.receipts_of(LAST)
    }


def test_explain_what_is_not_there(shop):
    with pytest.raises(InputError, match="nothing was published"):
        explain(shop.storage, shop.settings, "s002", None, midnight(LAST))
    shop.run()
    with pytest.raises(InputError, match="has no such store"):
        explain(shop.storage, shop.settings, "nobody", None, midnight(LAST))
    with pytest.raises(InputError, match="nothing was published as of"):
        explain(shop.storage, shop.settings, "s002", LAST - DAY, midnight(LAST))
