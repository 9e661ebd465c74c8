"""Ray begins to start while a run reads its inputs, and only where there is something to do."""

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
            expect_work=executor.start,
            work_done=executor.end,
        )
        executor.start()
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
def test_a_start_that_fails_unseen_disturbs_nobody(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "nowhere"))
    with RayOnDemand() as executor:
        executor.start()


def processes_in(folder):
    """The processes of the Ray that lies in a folder."""
    named = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command_line = (process / "cmdline").read_bytes().decode().replace("\0", " ")
            if str(folder) in command_line:
                named.append(command_line)
    return named


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("ends", ["by itself", "killed"])
def test_nothing_of_a_local_ray_outlives_its_run(ends):
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        code = (
            "import sys; from ray_job.datasets.local_ray import LocalRay\n"
            "ray = LocalRay(); print(ray.address(), flush=True); sys.stdin.readline(); ray.end()"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=environment_without_ray(RAY_TMPDIR=folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout.readline().strip().rpartition(":")[2].isdigit()
            named = processes_in(folder)
            agents = [line for line in named if line.startswith("sh -c while")]
            assert len(agents) == 2, "Ray's agents run"
            if ends == "killed":
                process.kill()
        deadline = time.monotonic() + 20
        while processes_in(folder) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not processes_in(folder)
        if ends == "by itself":
            assert not list(Path(folder).iterdir())
