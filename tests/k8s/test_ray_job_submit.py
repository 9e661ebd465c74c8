"""The card's command for engineers: `ray job submit` of a directory, on a real job server."""

import shutil
import subprocess
from contextlib import contextmanager

import httpx
import pytest

from ray_job.bucket import receipts
from ray_job.bucket.storage.directory import DirectoryStorage
from tests.k8s.support import nights
from tests.k8s.support.containers import wait_for
from tests.k8s.support.manifests import ROOT


@contextmanager
def head(folder, bucket):
    command, address = nights.head_command()
    log = folder / "head.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, f"--temp-dir={folder}"],
            env=nights.environment(STORECAST_BUCKET=str(bucket), **nights.SIGNED_IN),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            headers = {"Authorization": f"Bearer {nights.TOKEN}"}
            wait_for(f"{address}/api/version", log.read_text, headers=headers)
            yield address
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture
def short_folder(tmp_path_factory):
    """Ray's sockets are in it, and their paths may have at most 107 characters."""
    folder = tmp_path_factory.mktemp("ray")
    short = folder.parents[2] / f"storecast-{folder.parent.name[-4:]}"
    short.mkdir(exist_ok=True)
    yield short
    shutil.rmtree(short, ignore_errors=True)


@pytest.mark.timeout(900)
def test_an_engineer_s_working_directory_runs_and_publishes_nothing(tmp_path, short_folder):
    bucket = nights.make_bucket(tmp_path)
    with head(short_folder, bucket) as address:
        assert httpx.get(f"{address}/api/jobs/").status_code == 401
        command = [
            "ray", "job", "submit", f"--address={address}", "--working-dir", ".", "--",
            "storecast", "run", "--stores", "s002,s003", "--as-of", str(nights.YESTERDAY),
            "--no-publish",
        ]  # fmt: skip
        result = nights.submitted(
            lambda: subprocess.run(
                command,
                cwd=ROOT,
                env=nights.environment(**nights.SIGNED_IN),
                check=False,
                capture_output=True,
                text=True,
                timeout=600,
            )
        )
        assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-1000:]
        assert "succeeded" in result.stdout
        storage = DirectoryStorage.open(bucket)
        (receipt,) = receipts.of_night(storage, nights.YESTERDAY)
        assert (receipt.status, receipt.published) == ("unpublished", False)
        assert receipt.stores.ok + receipt.stores.closed + receipt.stores.fallback >= 2
        assert storage.stat("results/current.json") is None
