"""A Ray that cannot be reached or started: one sentence, soon."""

import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from ray_job.bucket import receipts
from ray_job.bucket.errors import RayUnavailableError
from ray_job.datasets import cluster
from ray_job.datasets.local_ray import LocalRay
from tests.ray_job.ingest.test_full_disk import full
from tests.support.shop import LAST

UNUSED = "127.0.0.1:9"


def run_command(shop, **environment):
    """`storecast run` in a process of its own, on the chain's bucket."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-m", "ray_job", "run", "--as-of", str(LAST)],
        env=others
        | {
            "STORECAST_BUCKET": shop.storage.url,
            "STORECAST_TIME_ZONE": "Europe/Berlin",
            "STORECAST_LOOKBACK_DAYS": "84",
        }
        | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@contextmanager
def ended(local):
    try:
        yield local
    finally:
        local.end()


def last_line(done):
    return done.stderr.strip().splitlines()[-1]


def test_a_run_without_ray_leaves_a_receipt(shop):
    began = time.monotonic()
    done = run_command(shop, RAY_ADDRESS=UNUSED)
    assert done.returncode == 1
    assert time.monotonic() - began < 60
    assert last_line(done).startswith(
        f"storecast: RAY_ADDRESS {UNUSED}: the Ray cluster cannot be reached: "
    )
    assert "Traceback" not in done.stderr
    (receipt,) = receipts.of_night(shop.storage, LAST)
    assert (receipt.status, receipt.exit_code) == ("failed", 1)
    assert receipt.message in last_line(done)


def test_a_path_that_is_too_long_for_rays_sockets(shop):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x" * 110)
        path.mkdir()
        done = run_command(shop, TMPDIR=str(path))
    assert done.returncode == 1
    assert last_line(done).startswith("storecast: a local Ray cannot be started: ")
    assert last_line(done).endswith("set TMPDIR to a shorter path")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_of_rays_folder_is_named(tmp_path, monkeypatch, error):
    """No process is begun: Ray itself would say something else, after some seconds."""

    def no_room(**_given):
        raise OSError(error, os.strerror(error))

    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "TemporaryFile", no_room)
    with ended(LocalRay()) as local:
        assert not list(tmp_path.iterdir())
        with pytest.raises(RayUnavailableError, match=rf"the disk of {tmp_path} is full \("):
            local.address()


def test_a_disk_that_fills_up_while_ray_starts_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / f"storecast-work-{os.getpid()}").write_bytes(b"")  # the folder cannot be made
    message = pytest.raises(RayUnavailableError, match=rf"the disk of {tmp_path} is full \(")
    with ended(LocalRay()) as local, full(100_000), message:
        local.address()


@pytest.mark.parametrize("limit", [0, 100_000, 20_000_000])
def test_a_limit_of_the_size_of_files_is_named(tmp_path, monkeypatch, limit):
    """Before Ray's process that has its memory begins: it would be waited for in vain."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        with full(limit), ended(LocalRay()) as local:
            with pytest.raises(RayUnavailableError, match=f" {limit:,} bytes .`ulimit -f`"):
                local.address()
            assert not list(Path(folder).rglob("raylet.out"))
        assert not list(Path(folder).iterdir())


def test_a_run_without_room_for_rays_memory_leaves_a_receipt(shop):
    with full(20_000_000):
        done = run_command(shop)
    assert done.returncode == 1
    assert last_line(done).startswith("storecast: a local Ray cannot be started: no file of this")
    (receipt,) = receipts.of_night(shop.storage, LAST)
    assert receipt.message in last_line(done)


def test_a_limit_that_leaves_room_for_rays_memory_is_not_blamed(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "nowhere"))
    message = pytest.raises(RayUnavailableError, match=r"started: .*nowhere")
    with full(2**50), ended(LocalRay()) as local, message:
        local.address()


def test_a_ray_that_is_killed_while_it_starts_is_said():
    with (
        tempfile.TemporaryDirectory(prefix="ray-") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", folder)
        with ended(LocalRay()) as local:
            os.kill(local._process.pid, signal.SIGKILL)
            with pytest.raises(RayUnavailableError, match="ended by Killed; is there memory"):
                local.address()
        assert not list(Path(folder).iterdir())


@pytest.mark.parametrize("address", [UNUSED, f"ray://{UNUSED}", "[::1]:9", "nowhere.invalid:9"])
def test_nothing_listens(monkeypatch, address):
    monkeypatch.setattr(cluster, "_REACH_SECONDS", 0.5)
    with pytest.raises(RayUnavailableError, match="cannot be reached"):
        cluster._wait_for_port(address, "RAY_ADDRESS: cannot be reached: {}")


@pytest.mark.parametrize("address", ["auto", "local", "a:b"])
def test_other_addresses_are_left_to_ray(address):
    cluster._wait_for_port(address, "{}")


def test_something_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        cluster._wait_for_port(f"127.0.0.1:{server.getsockname()[1]}", "{}")


def test_a_cluster_that_is_silent_is_given_up():
    began = time.monotonic()
    with pytest.raises(cluster._TooLateError), cluster._interrupted_after(0.2):
        time.sleep(30)
    assert time.monotonic() - began < 10


def test_what_answers_in_time_is_not_interrupted():
    with cluster._interrupted_after(0.2):
        pass
    time.sleep(0.4)
