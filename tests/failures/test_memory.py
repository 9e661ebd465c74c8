"""A store that no worker has enough memory for; Ray ends workers when memory runs out."""

import json
import subprocess

import pytest

from tests.processes.short_of_memory import LIMITS, swollen
from tests.support.processes import environment_without_ray, python_command
from tests.support.shop import DAY, LAST, generations

HUNGRY = "s003"


@pytest.mark.timeout(280)
def test_a_store_that_does_not_fit_into_memory(shop, tmp_path):
    """Its chunk is halved until it is alone. The others succeed; the next run retries it."""
    shop = shop.having(plan=LIMITS)
    shop.run(LAST - DAY)
    (key, *_) = shop.partition_files(HUNGRY)
    good_history = shop.storage.read(key)
    shop.tamper(key, swollen)
    out = tmp_path / "tasks.json"
    process = subprocess.run(
        python_command("tests.processes.short_of_memory", shop.storage.url, LAST, out),
        env=environment_without_ray(),
        capture_output=True,
        text=True,
        check=False,
        timeout=270,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    entry = shop.pointer.current_entry
    assert entry.as_of == LAST
    stores = shop.stores()
    assert {row["as_of"] for name, row in stores.items() if name != HUNGRY} == {LAST}
    row = stores[HUNGRY]
    assert (row["outcome"], row["reason_code"]) == ("failed", "memory")
    assert row["reason"].startswith("the node ran out of memory")
    assert (row["as_of"], row["carried_since"]) == (LAST - DAY, LAST)
    # The chunk is handed out twice, then its halves once each; Ray itself repeats no task.
    tasks = [task for task in json.loads(out.read_text()) if HUNGRY in task]
    assert len(tasks[0]) > 1
    assert tasks[0] == tasks[1]
    assert tasks[-1] == [HUNGRY]
    assert len(tasks) <= 5
    shop.check()
    # With the good history the same night makes the part of that chunk, and no other.
    shop.tamper(key, lambda _: good_history)
    before = set(shop.part_keys())
    receipt = shop.run()
    assert (receipt.status, receipt.exit_code) == ("published", 0)
    assert len(set(shop.part_keys()) - before) == 1
    assert shop.stores()[HUNGRY]["as_of"] == LAST
    shop.check()
    before = generations(shop.storage)
    assert shop.run() == receipt
    assert generations(shop.storage) == before
