"""A small bucket before its first night, and Ray heads for the run of that night."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CompletedProcess

from ray_job import sample
from ray_job.sample import files as sample_files
from tests.k8s.support.containers import free_port

YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
TOKEN = "a-token-of-the-tests"  # noqa: S105 - valid for the tests' own heads only
WRONG_TOKEN = "another-token"  # noqa: S105 - valid nowhere
SIGNED_IN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
SMALL_MODEL = {"STORECAST_TRAINING__TREES": "20", "STORECAST_TRAINING__ROWS": "5000"}
BIN = Path(sys.executable).parent


def environment(**more: str) -> dict[str, str]:
    """This environment, with the project's commands first in PATH and without variables of Ray."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**inherited, "PATH": f"{BIN}:{inherited['PATH']}", **SMALL_MODEL, **more}


def make_bucket(folder: Path) -> Path:
    """A bucket with histories and a model. Yesterday's sales are in raw_data/, not yet ingested."""
    bucket = folder / "bucket"
    raw = bucket / "raw_data"
    raw.mkdir(parents=True)
    spec = sample.SampleSpec(last_day=YESTERDAY, stores=12, days=450, days_ahead=7)
    files = sample_files.write(sample.generate(spec), raw, days_per_file=449)
    newest = next(path for path in files if path.name == f"sales-{YESTERDAY}.csv")
    hidden = folder / newest.name
    newest.rename(hidden)
    for command in (["ingest"], ["train"]):
        subprocess.run(
            [BIN / "storecast", *command],
            env=environment(STORECAST_BUCKET=str(bucket)),
            check=True,
            capture_output=True,
            timeout=280,
        )
    shutil.move(hidden, newest)
    return bucket


def poison(bucket: Path, store: str) -> None:
    """Overwrite a store's history by what is no Parquet file, and delete all packs of it."""
    shutil.rmtree(bucket / "packs", ignore_errors=True)
    for path in (bucket / "batch_data" / f"store_id={store}").glob("*.parquet"):
        path.write_bytes(b"this is no Parquet file" * 100)


def head_command() -> tuple[list[str], str]:
    """The command that starts a head on free ports, and the address of its job server."""
    ports = [free_port() for _ in range(4)]
    command = [
        "ray", "start", "--head", "--block", "--num-cpus=2", "--disable-usage-stats",
        "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1",
        f"--port={ports[0]}", f"--dashboard-port={ports[1]}",
        f"--ray-client-server-port={ports[2]}", f"--dashboard-agent-listen-port={ports[3]}",
    ]  # fmt: skip
    return command, f"http://127.0.0.1:{ports[1]}"


def submitted(submit: Callable[[], CompletedProcess[str]]) -> CompletedProcess[str]:
    """The result of `submit`, which is repeated until the head's job agent is up.

    The job server answers before its agent is up. KubeRay's submitter repeats for the same reason.
    """
    end = time.monotonic() + 180
    while True:
        result = submit()
        output = result.stdout + result.stderr
        if "No available agent" not in output or time.monotonic() > end:
            return result
        time.sleep(1)


def nightly_command(address: str) -> list[str]:
    return [
        "ray", "job", "submit", f"--address={address}", "--",
        "storecast", "run", "--ingest", "--as-of", str(YESTERDAY),
    ]  # fmt: skip
