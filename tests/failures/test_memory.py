"""A store that no worker has memory for, on a Ray that ends workers when memory runs out."""

import json
import os
import subprocess
import sys

import pytest

from tests.processes.short_of_memory import LIMITS, swollen
from tests.support.shop import DAY, LAST, generations

HUNGRY = "s003"


@pytest.mark.timeout(280)
def test_a_store_that_does_not_fit_into_memory(shop, tmp_path):
    """Halved until it stands alone; the others are fresh, and the next run tries it again."""
    shop = shop.having(plan=LIMITS)
    shop.run(LAST - DAY)
    (key, *_) = shop.partition_files(HUNGRY)
    whole = shop.storage.read(key)
    shop.tamper(key, swollen)
    out = tmp_path / "seen.json"
    told = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.processes.short_of_memory",
            shop.storage.url,
            str(LAST),
            str(out),
        ],
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        capture_output=True,
        text=True,
        check=False,
        timeout=270,
    )
    assert told.returncode == 0, told.stderr[-2000:]
    entry = shop.pointer.current_entry
    assert entry.as_of == LAST
    stores = shop.stores()
    assert {row["as_of"] for name, row in stores.items() if name != HUNGRY} == {LAST}
    hungry = stores[HUNGRY]
    assert (hungry["outcome"], hungry["reason_code"]) == ("failed", "memory")
    assert hungry["reason"].startswith("the node ran out of memory")
    assert (hungry["as_of"], hungry["carried_since"]) == (LAST - DAY, LAST)
    # The chunk was handed out twice, then its halves once each; Ray repeats nothing by itself.
    theirs = [task for task in json.loads(out.read_text()) if HUNGRY in task]
    assert len(theirs[0]) > 1
    assert theirs[0] == theirs[1]
    assert theirs[-1] == [HUNGRY]
    assert len(theirs) <= 5
    shop.check()
    # With memory enough the same night does that chunk again, and no other.
    shop.tamper(key, lambda _: whole)
    before = set(shop.part_keys())
    receipt = shop.run()
    assert (receipt.status, receipt.exit_code) == ("published", 0)
    assert len(set(shop.part_keys()) - before) == 1
    assert shop.stores()[HUNGRY]["as_of"] == LAST
    shop.check()
    before = generations(shop.storage)
    assert shop.run() == receipt
    assert generations(shop.storage) == before
