"""Lost nodes: one that works on chunks, and the head with the driver on it."""

import json
import os
import signal
import subprocess
import time
from contextlib import suppress

import pytest

from tests.support.processes import environment_without_ray, python_command
from tests.support.shop import DAY, LAST, generations, midnight

pytestmark = pytest.mark.timeout(280)


def start(shop, out, *options):
    """Start the chain's night on a cluster of its own, in a session of its own."""
    return subprocess.Popen(
        python_command("tests.processes.losing_nodes", shop.storage.url, out, *options),
        env=environment_without_ray(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("waits", [0, 4])
def test_a_lost_node_costs_only_its_chunks(shop, tmp_path, waits):
    """If `waits` is not 0, the node also holds results that the driver has not fetched yet."""
    shop.run(LAST - DAY)
    out = tmp_path / "report.json"
    process = start(shop, out, 1, waits)
    _, err = process.communicate(timeout=270)
    assert process.returncode == 0, err[-2000:]
    report = json.loads(out.read_text())
    assert report["alive"] == 2  # the head and one of two working nodes
    receipt = report["receipt"]
    assert (receipt["status"], receipt["exit_code"], receipt["failures"]) == ("published", 0, [])
    assert max(report["handed_out"].values()) == 2
    assert len(shop.part_keys()) == len(receipt["chunks"])
    before = generations(shop.storage)
    assert shop.run().run_id == receipt["run_id"]
    assert generations(shop.storage) == before
    shop.check()


def test_a_lost_head_costs_only_unfinished_chunks(shop, tmp_path):
    """Head, driver and all their processes end; the next attempt makes the missing parts."""
    shop.run(LAST - DAY)
    with start(shop, tmp_path / "report.json") as process:
        until = time.monotonic() + 200
        while len(shop.part_keys()) < 2:
            assert process.poll() is None, process.stderr.read()[-2000:]
            assert time.monotonic() < until
            time.sleep(0.02)
        for pid in family(process.pid):
            with suppress(ProcessLookupError):  # it has ended with its parent
                os.kill(pid, signal.SIGKILL)
    assert shop.pointer.current_entry.as_of == LAST - DAY
    shop.check()
    finished_parts = set(shop.part_keys())
    receipt = shop.run(now=midnight(LAST))
    assert (receipt.status, receipt.exit_code) == ("published", 0)
    assert {chunk.part for chunk in receipt.chunks if chunk.adopted} == finished_parts
    new_parts = set(shop.part_keys()) - finished_parts
    assert len(new_parts) + len(finished_parts) == len(receipt.chunks)
    shop.check()


def family(pid):
    """A process and all its descendants, parents before children."""
    children = {}
    for line in subprocess.check_output(["ps", "-eo", "pid=,ppid="], text=True).splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    pids = [pid]
    for parent in pids:
        pids += children.get(parent, [])
    return pids
