"""Nights on a real Ray: the same rows as without Ray, also when workers die or hang."""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from ray_job.bucket import keys
from ray_job.bucket.errors import CorruptError
from ray_job.datasets.blocks import block_sizes
from ray_job.datasets.executor import RayExecutor
from ray_job.forecasting.task import Task
from ray_job.nightly.prepare import prepare
from ray_job.nightly.request import RunRequest
from ray_job.settings import Plan, Run
from tests.fake_gcs import Fault
from tests.support.faults import KILLED, StallingOnce, Trapped, killed_once
from tests.support.processes import environment_without_ray, log_events
from tests.support.shop import LAST, STORES, generations, midnight

pytestmark = [
    pytest.mark.usefixtures("local_ray"),
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Ray, about itself
]
POISONED = "s003"


def has_poisoned(task):
    return POISONED in task.chunk.store_ids


def failed(receipt):
    return [(failure.store_id, failure.reason_code) for failure in receipt.failures]


@pytest.mark.parametrize(
    ("chunk_bytes", "cpus", "sizes"),
    [
        ([], 2, []),
        ([8], 2, [1]),
        ([8] * 5, 2, [2, 1, 1, 1]),
        ([8] * 60, 2, [16, 15, 10, 6, 4, 3, 2, 1, 1, 1, 1]),
        ([8] * 40, 100, [1] * 40),
        ([8] * 20, 0, [13, 5, 1, 1]),
        ([8] * 20, 1, [13, 5, 1, 1]),
        ([100, 1, 1, 1, 1], 2, [1, 1, 1, 1, 1]),
        ([0, 0], 2, [2]),
    ],
)
def test_chunks_of_a_task(chunk_bytes, cpus, sizes):
    """Tasks get fewer and fewer chunks, so that all workers finish at about the same time."""
    assert list(block_sizes(chunk_bytes, cpus)) == sizes


def test_the_same_rows_as_without_ray(shop):
    receipt = shop.by(RayExecutor()).run()
    assert (receipt.status, receipt.stores.ok) == ("published", 8)
    assert receipt.peak_memory_bytes > 0
    made = shop.all_rows()
    before = generations(shop.storage)
    assert shop.run() == receipt
    assert generations(shop.storage) == before
    shop.having(plan=Plan(chunk_rows=421)).run(force=True)
    assert shop.all_rows().equals(made)


def test_a_killed_workers_chunk_is_done_again(shop, tmp_path, capsys):
    mark = tmp_path / "mark"
    trapped = Trapped(RayExecutor(), has_poisoned, lambda task: killed_once(mark, task.attempt))
    receipt = shop.by(trapped).run()
    assert mark.exists()
    (lost,) = log_events(capsys.readouterr().err, "task_lost")
    assert lost["severity"] == "WARNING"
    assert "worker died" in lost["reason"]
    assert (receipt.status, receipt.stores.failed) == ("published", 0)
    assert sum(POISONED in stores for stores in trapped.handed_out) == 2
    assert len(shop.part_keys()) == len(receipt.chunks)
    assert shop.all_rows().num_rows == (len(STORES) - 1 + 12) * 7
    shop.check()


def test_what_is_wrong_with_the_run_ends_it_at_once(shop, tmp_path):
    """The error is the same as without Ray, and the other task is not running any more.

    Two tasks for two processors: Ray may lose the cancellation of one that is only beginning.
    """
    run_plan = prepare(
        shop.storage,
        shop.having(plan=Plan(chunk_rows=150)).settings,
        RunRequest(LAST),
        midnight(LAST),
    )
    tasks = [
        Task(planned.chunk, alone=True, attempt=number)
        for number, planned in enumerate(run_plan.planned_chunks[:2])
    ]
    assert len(tasks) == 2
    sign = tmp_path / "sign"
    sign.touch()
    os.utime(sign, (0, 0))
    pause = "__import__('time').sleep(0.05)"
    # The first task fails once the other one is running, which would go on for minutes.
    waits = (
        f"(any({pause} or __import__('os').stat({str(sign)!r}).st_mtime for _ in range(600)), 0)[1]"
    )
    going_on = f"([(__import__('os').utime({str(sign)!r}), {pause}) for _ in range(6000)], 0)[1]"
    spec = replace(run_plan.spec, artifact=replace(run_plan.spec.artifact, model=b"rubbish"))
    trapped = Trapped(
        RayExecutor(), lambda _: True, lambda task: going_on if task.attempt else waits
    )
    with pytest.raises(CorruptError, match="tiny"):
        list(trapped.run(tasks, spec))
    until = time.monotonic() + 60
    before = 0
    assert sign.stat().st_mtime_ns, "the other task never ran"
    while before != (before := sign.stat().st_mtime_ns):
        assert time.monotonic() < until
        time.sleep(2)


def test_a_store_that_kills_its_worker_stands_alone(shop):
    shop = shop.having(plan=Plan(chunk_rows=700))
    shop.run(LAST.replace(day=27))
    trapped = Trapped(RayExecutor(), has_poisoned, lambda _: KILLED)
    receipt = shop.by(trapped).run()
    assert (receipt.status, receipt.exit_code) == ("published_with_failures", 4)
    assert [failure.store_id for failure in receipt.failures] == [POISONED]
    assert receipt.failures[0].reason_code == "killed_worker"
    assert receipt.failures[0].last_good_as_of == LAST.replace(day=27)
    poisoned_tasks = [stores for stores in trapped.handed_out if POISONED in stores]
    assert len(poisoned_tasks[0]) > 1
    assert poisoned_tasks[0] == poisoned_tasks[1]
    assert poisoned_tasks[-1] == [POISONED]
    stores = shop.stores()
    assert stores[POISONED]["carried_since"] == LAST
    assert {row["as_of"] for name, row in stores.items() if name != POISONED} == {LAST}
    # No later run of the night hands the store out again.
    before = generations(shop.storage)
    unused = Trapped(RayExecutor(), has_poisoned, lambda _: KILLED)
    assert shop.by(unused).run() == receipt
    assert unused.handed_out == []
    assert generations(shop.storage) == before
    shop.check()


def test_what_is_lost_with_another_chunk_is_done_once_more(shop):
    """A task has several chunks. Those after the chunk that kills it are retried once, alone."""
    shop = shop.having(plan=Plan(chunk_rows=150))
    shop.run(LAST.replace(day=27))
    calls = []
    trapped = Trapped(RayExecutor(), has_poisoned, lambda _: KILLED)

    class Recording:
        def run(self, tasks, spec):
            calls.append(list(tasks))
            return trapped.run(tasks, spec)

    receipt = shop.by(Recording()).run()
    assert [failure.store_id for failure in receipt.failures] == [POISONED]
    first, again, *last = calls
    assert len(first) == len(receipt.chunks) > len(again)
    assert not any(task.alone for task in first)
    assert all(task.alone for task in again)
    [suspect] = [task.chunk.store_ids for task in again if has_poisoned(task)]
    pieces = [task.chunk.store_ids for tasks in last for task in tasks]
    assert pieces[-1] == [POISONED]
    assert {store for stores in pieces for store in stores} <= set(suspect)
    assert {row["as_of"] for name, row in shop.stores().items() if name != POISONED} == {LAST}
    shop.check()


def test_a_store_that_hangs_is_ended(gcs_shop, gcs):
    shop = gcs_shop.having(plan=Plan(chunk_rows=150), run=Run(chunk_deadline_seconds=6))
    shop.run(LAST.replace(day=27))
    shop.delete(keys.PACKS)
    stall = Fault("stall", op="get", key=f"*store_id={POISONED}/*", seconds=120.0, times=None)
    receipt = shop.by(StallingOnce(RayExecutor(), gcs.faults, stall)).run()
    gcs.faults.clear()
    assert receipt.exit_code == 4
    assert failed(receipt) == [(POISONED, "deadline")]
    assert "6 s" in receipt.failures[0].reason
    assert shop.stores()[POISONED]["as_of"] == LAST.replace(day=27)


def test_transient_faults_of_the_storage(gcs_shop, gcs, shop):
    shop.run()
    gcs.faults.transient(0.15, seed=4)
    receipt = gcs_shop.by(RayExecutor()).run()
    gcs.faults.clear()
    assert receipt.status == "published"
    assert gcs_shop.all_rows().equals(shop.all_rows())


def test_a_partition_that_the_storage_refuses(gcs_shop, gcs):
    gcs_shop.run(LAST.replace(day=27))
    gcs_shop.delete(keys.PACKS)
    gcs.faults.add(Fault("status", op="get", key=f"*store_id={POISONED}/*", status=403, times=None))
    receipt = gcs_shop.by(RayExecutor()).run()
    assert failed(receipt) == [(POISONED, "storage")]
    gcs.faults.clear()
    again = gcs_shop.run()
    assert (again.status, again.exit_code) == ("published", 0)
    assert gcs_shop.stores()[POISONED]["as_of"] == LAST


def test_a_cluster_that_merely_runs_on_this_machine_is_not_joined(short_path):
    running = ray.get_runtime_context().gcs_address
    (short_path / "ray").mkdir()
    (short_path / "ray" / "ray_current_cluster").write_text(running)
    code = (
        "import ray; from ray_job.datasets.cluster import cluster\n"
        "with cluster(): print(ray.get_runtime_context().gcs_address)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        env=environment_without_ray(RAY_TMPDIR=str(short_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    started = process.stdout.strip()
    assert started.rpartition(":")[2].isdigit(), process.stderr
    assert started != running


@pytest.fixture
def short_path():
    """A folder for Ray's sockets. Its path is short, since a socket's has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as name:
        yield Path(name)
