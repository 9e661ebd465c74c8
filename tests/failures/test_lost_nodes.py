"""Nodes that are lost: a working one, and the head with the driver on it."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from tests.support.shop import DAY, LAST, generations, midnight

pytestmark = pytest.mark.timeout(280)


def start(shop, out, *words):
    """The chain's night on a cluster of its own, in a session of its own."""
    command = [
        sys.executable,
        "-m",
        "tests.processes.losing_nodes",
        shop.storage.url,
        str(out),
        *words,
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("waits", [0, 4])
def test_a_lost_node_costs_what_it_was_at(shop, tmp_path, waits):
    """With `waits` results lie on it, too, that nobody had fetched yet."""
    shop.run(LAST - DAY)
    out = tmp_path / "told.json"
    process = start(shop, out, "1", str(waits))
    _, err = process.communicate(timeout=270)
    assert process.returncode == 0, err[-2000:]
    told = json.loads(out.read_text())
    assert told["alive"] == 2  # the head and one that works, of two
    receipt = told["receipt"]
    assert (receipt["status"], receipt["exit_code"], receipt["failures"]) == ("published", 0, [])
    assert max(told["handed_out"].values()) == 2
    assert len(shop.part_keys()) == len(receipt["chunks"])
    before = generations(shop.storage)
    assert shop.run().run_id == receipt["run_id"]
    assert generations(shop.storage) == before
    shop.check()


def test_a_lost_head_costs_what_was_in_flight(shop, tmp_path):
    """Head and driver go at once, with every process of theirs; the next attempt does the rest."""
    shop.run(LAST - DAY)
    with start(shop, tmp_path / "told.json") as process:
        until = time.monotonic() + 200
        while len(shop.part_keys()) < 2:
            assert process.poll() is None, process.stderr.read()[-2000:]
            assert time.monotonic() < until
            time.sleep(0.02)
        for pid in family(process.pid):
            with suppress(ProcessLookupError):  # it went with its parent
                os.kill(pid, signal.SIGKILL)
    assert shop.pointer.current_entry.as_of == LAST - DAY
    shop.check()
    there = set(shop.part_keys())
    receipt = shop.run(now=midnight(LAST))
    assert (receipt.status, receipt.exit_code) == ("published", 0)
    assert {chunk.part for chunk in receipt.chunks if chunk.adopted} == there
    again = set(shop.part_keys()) - there
    assert len(again) + len(there) == len(receipt.chunks)
    shop.check()


def family(pid):
    """A process and all that descend from it, those first that would start others."""
    children = {}
    for line in subprocess.check_output(["ps", "-eo", "pid=,ppid="], text=True).splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found
