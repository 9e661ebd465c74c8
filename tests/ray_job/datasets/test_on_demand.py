"""Ray begins to start while a run reads its inputs, and only where there is something to do."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
import ray

from ray_job.bucket.errors import InputError, RayUnavailableError
from ray_job.datasets.on_demand import RayOnDemand
from ray_job.nightly import run as running
from ray_job.nightly.job import run_job
from ray_job.nightly.prepare import prepare
from ray_job.nightly.request import RunRequest
from ray_job.nightly.run import run
from ray_job.progress import SilentProgress
from tests.support.processes import environment_without_ray
from tests.support.shop import LAST, midnight

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("request_", "is_expected"),
    [
        (RunRequest(as_of=LAST), False),
        (RunRequest(as_of=LAST, force=True), True),
        (RunRequest(as_of=LAST - DAY), True),
        (RunRequest(as_of="current"), False),
    ],
)
def test_work_is_expected_where_nothing_is_published(shop, request_, is_expected):
    shop.run(LAST)
    expected = []
    prepare(
        shop.storage,
        shop.settings,
        request_,
        midnight(LAST),
        expect_work=lambda: expected.append(1),
    )
    assert bool(expected) == is_expected


@pytest.mark.parametrize(
    ("request_", "starts"),
    [
        (RunRequest(), True),
        (RunRequest(as_of=LAST - DAY), True),
        (RunRequest(as_of=LAST), False),
        (RunRequest(as_of=LAST - DAY, stores=["s001"]), False),
        (RunRequest(as_of="current"), False),
    ],
)
def test_a_job_with_work_starts_ray_before_anything_else(shop, monkeypatch, request_, starts):
    shop.run(LAST)
    begun = []

    def run(*_, **__):
        raise InputError("the run begins")

    monkeypatch.setattr(RayOnDemand, "start", lambda _: begun.append(1))
    monkeypatch.setattr(running, "run", run)
    with pytest.raises(InputError, match="the run begins"):
        run_job(
            shop.storage,
            shop.settings,
            request_,
            now=midnight(LAST + DAY),
            clock=lambda: 0.0,
            progress=SilentProgress(),
        )
    assert bool(begun) == starts


@pytest.mark.parametrize(
    "request_",
    [RunRequest(as_of=LAST + 9 * DAY), RunRequest(as_of=LAST, stores=["nowhere"])],
)
def test_a_wrong_request_expects_no_work(shop, request_):
    def fail():
        raise AssertionError("work was expected")

    with pytest.raises(InputError):
        prepare(shop.storage, shop.settings, request_, midnight(LAST), expect_work=fail)


@pytest.mark.usefixtures("local_ray")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray, about itself
def test_a_night_waits_for_the_ray_that_was_started(shop):
    with RayOnDemand() as executor:
        receipt = run(
            shop.storage,
            shop.settings,
            RunRequest(as_of=LAST),
            executor,
            now=midnight(LAST),
            clock=lambda: 0.0,
            progress=SilentProgress(),
            expect_work=executor.connect,
            work_done=executor.end,
        )
        executor.connect()
    assert receipt.status == "published"
    assert ray.is_initialized(), "the Ray of somebody else was ended"


@pytest.fixture
def no_ray(monkeypatch):
    """As if this process were connected to no Ray, and none were named."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)


@pytest.mark.usefixtures("no_ray")
def test_a_start_that_fails_is_told_by_the_first_task(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "nowhere"))
    with RayOnDemand() as executor:
        executor.start()
        with pytest.raises(RayUnavailableError, match=r"cannot be started: .*nowhere"):
            next(executor.run([], None))


@pytest.mark.usefixtures("no_ray")
def test_a_start_that_fails_is_told_while_the_run_reads_its_inputs(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "nowhere"))
    with RayOnDemand() as executor, pytest.raises(RayUnavailableError, match=r"cannot be started"):
        executor.connect()


def test_ray_data_begins_with_the_local_ray():
    """Its coordinator imports as long as a plan takes, and nobody would read its statistics."""
    code = (
        "from ray_job.datasets.on_demand import RayOnDemand\n"
        "with RayOnDemand() as executor:\n"
        "    executor.connect(); executor.connect()\n"
        "    import ray\n"
        "    named = {actor['name'] for actor in ray.util.list_named_actors(True)}\n"
        "    assert named == {'AutoscalingCoordinator', 'datasets_stats_actor'}, named\n"
        "    assert ray.data.range(5).map(lambda row: row).count() == 5\n"
        "    assert {actor['name'] for actor in ray.util.list_named_actors(True)} == named\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        env=environment_without_ray(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("no_ray")
def test_a_start_that_fails_unseen_disturbs_nobody(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "nowhere"))
    with RayOnDemand() as executor:
        executor.start()


RAY_WITH_WORKERS = """
import os, signal, sys
from ray_job.datasets.local_ray import LocalRay

local = LocalRay()
address = local.address()
import ray

ray.init(address, logging_level="ERROR", log_to_driver=False)


@ray.remote
class Worker:
    def pid(self):
        return os.getpid()


workers = [Worker.remote(), Worker.remote()]
pids = ray.get([worker.pid.remote() for worker in workers])
os.kill(pids[0], signal.SIGSTOP)
print(pids[0], local._process.pid, flush=True)
sys.stdin.readline()
ray.shutdown()
local.end()
"""


def live_processes(session):
    """The states and command lines of a session's processes, without those that have ended."""
    processes = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, _, _, number = (process / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(number) == session and state != "Z":
                processes.append((state, (process / "cmdline").read_bytes().decode()))
    return processes


def eventually(is_true):
    deadline = time.monotonic() + 60
    while not is_true() and time.monotonic() < deadline:
        time.sleep(0.05)
    return is_true()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    "killed",
    [[], ["command"], ["child"], ["child", "command"]],
    ids="+".join,
)
def test_nothing_of_a_local_ray_outlives_its_run(killed):
    """Neither its workers, of which one is stopped and notices nothing, nor its folder."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        process = subprocess.Popen(
            [sys.executable, "-c", RAY_WITH_WORKERS],
            env=environment_without_ray(RAY_TMPDIR=folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        with process:
            stopped, session = map(int, process.stdout.readline().split())
            assert eventually(lambda: "T" in dict(live_processes(session)))
            agents = [
                line for _, line in live_processes(session) if line.startswith("sh\0-c\0read")
            ]
            assert len(agents) == 2, "Ray's agents run"
            if killed == [
                "child",
                "command",
            ]:  # a shell ends the group, workers follow by themselves
                os.kill(stopped, signal.SIGCONT)
            for victim in killed:
                os.kill({"command": process.pid, "child": session}[victim], signal.SIGKILL)
                if victim == "child":
                    assert eventually(
                        lambda: not any("local_ray" in line for _, line in live_processes(session))
                    )
                    assert len(live_processes(session)) > 4, "Ray goes on"
        assert eventually(lambda: not live_processes(session))
        assert eventually(lambda: not list(Path(folder).iterdir()))
