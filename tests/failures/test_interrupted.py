"""SIGINT, SIGTERM and SIGHUP: the exit code, what is left, and the same command again."""

import os
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from ray_job.bucket.storage import open_bucket
from ray_job.interruption import Interrupted, signals_raise
from ray_job.settings import Settings
from tests.ray_job.ingest.test_full_disk import large_file
from tests.support.delivery_bucket import DeliveryBucket
from tests.support.processes import environment_without_ray, python_command

ROWS = 400_000
SIGNALS = [signal.SIGINT, signal.SIGTERM]


def interrupted(number, seconds, call):
    """Make a call that a signal ends after some time; on a fast machine, right after it."""
    with signals_raise():
        threading.Timer(seconds, os.kill, (os.getpid(), number)).start()
        call()
        time.sleep(10)


def test_a_delivery_that_is_read_when_a_signal_comes_is_not_left_out(tmp_path, monkeypatch):
    """DuckDB drops what the handler raises, and raises an error of its own, as of a bad file."""
    for name in ("work", "bucket"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "work"))
    bucket = DeliveryBucket(open_bucket(str(tmp_path / "bucket")), Settings(), tmp_path / "local")
    bucket.drop("big.parquet", large_file(ROWS, 50))
    with pytest.raises(Interrupted):
        interrupted(signal.SIGTERM, 0.3, lambda: bucket.ingest(leave_out_bad=True))
    assert list((tmp_path / "work").iterdir()) == []
    assert bucket.ingest(leave_out_bad=True).bad == ()
    assert bucket.history().num_rows == ROWS


@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_that_a_signal_ends_goes_on_when_it_is_given_again(tmp_path, number):
    bucket, temporary, file = (tmp_path / name for name in ("bucket", "work", "big.parquet"))
    bucket.mkdir()
    temporary.mkdir()
    file.write_bytes(large_file(ROWS, 50))
    process = _ingest(bucket, temporary, file)
    while process.poll() is None and not any(temporary.glob("storecast-work-*/rows.duckdb")):
        time.sleep(0.01)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number, error
    assert error.splitlines()[-1].startswith(f"storecast: ended by {number.name}: ")
    assert "Traceback" not in error
    assert list(temporary.iterdir()) == []
    assert list(bucket.rglob(".storecast-????????")) == []
    again = _ingest(bucket, temporary, file)
    text, error = again.communicate(timeout=60)
    assert again.returncode == 0, error
    assert f"{ROWS:,} rows" in text, text
    assert list(temporary.iterdir()) == []


def test_a_signal_that_is_ignored_stays_so(tmp_path):
    """As SIGHUP under `nohup`."""
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_raise():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, handler)


def _ingest(bucket: Path, temporary: Path, file: Path):
    return subprocess.Popen(
        python_command("ray_job", "ingest", file, "--bucket", bucket),
        env=environment_without_ray(TMPDIR=str(temporary)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores SIGINT, and so would the command.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
