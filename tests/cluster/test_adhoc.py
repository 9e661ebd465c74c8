"""The ad-hoc cluster of TASKS.md: it wakes, wants its token, runs a directory, and sleeps again."""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ray_job.bucket import receipts
from tests.cluster import inside, nightly_job, objects, processes, project
from tests.cluster.control_plane import kubectl
from tests.cluster.places import NAMESPACE, ROOT
from tests.k8s.support.nights import YESTERDAY

ADHOC = "storecast-adhoc"
RAY = Path(sys.executable).parent / "ray"
HEAD = f"ray.io/cluster={ADHOC},ray.io/node-type=head"


@pytest.fixture
def awake(clean_night):
    objects.patch("raycluster", ADHOC, {"spec": {"suspend": False}})
    processes.wait_until(
        300,
        "the ad-hoc head",
        lambda: [pod for pod in objects.listed("pods", HEAD) if objects.is_ready(pod)],
        1,
    )
    processes.start(
        "forward",
        kubectl("port-forward", f"--namespace={NAMESPACE}", f"service/{ADHOC}-head-svc", "8265"),
    )
    processes.wait_until(
        30,
        "the forwarded port",
        lambda: processes.succeeds("bash", "-c", "</dev/tcp/127.0.0.1/8265"),
    )
    yield
    processes.stop("forward")
    objects.patch("raycluster", ADHOC, {"spec": {"suspend": True}})
    objects.wait_for_gone("pods", f"ray.io/cluster={ADHOC}", 180)


def ray_job(*arguments, token=None):
    signed_in = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {}
    return subprocess.run(
        [RAY, "job", *arguments],
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": "http://127.0.0.1:8265", **signed_in},
        check=False,
        capture_output=True,
        text=True,
        timeout=nightly_job.PATIENCE,
    )


def test_a_directory_runs_with_the_token_only_and_set_up_lets_it_live(awake, bucket, live):
    secret = objects.get("secret", ADHOC)["data"]["auth_token"]
    token = base64.b64decode(secret).decode()
    assert ray_job("list").returncode != 0
    assert ray_job("list", token="another").returncode != 0  # noqa: S106 - valid nowhere
    head = objects.names("pods", HEAD)
    for _ in range(2):
        again = project.apply(project.write_overlay(inside.overlay()))
        assert again.returncode == 0, again.stderr
        assert "storecast-adhoc is awake and stays as it is" in again.stdout
    submitted = ray_job(
        "submit", "--working-dir=.", "--", "storecast", "run", "--stores=s002,s003",
        f"--as-of={YESTERDAY}", "--no-publish", token=token,
    )  # fmt: skip
    assert submitted.returncode == 0, submitted.stdout[-2000:] + submitted.stderr[-2000:]
    assert objects.names("pods", HEAD) == head, "it was not put to sleep"
    (receipt,) = receipts.of_night(bucket, YESTERDAY)
    assert (receipt.status, receipt.published) == ("unpublished", False)


def test_what_sleeps_follows_the_next_set_up(set_up):
    objects.patch("raycluster", ADHOC, {"spec": {"suspend": True, "rayVersion": "2.52.0"}})
    assert project.apply(project.write_overlay(inside.overlay())).returncode == 0
    spec = objects.get("raycluster", ADHOC)["spec"]
    assert spec["suspend"] is True
    assert spec["rayVersion"] != "2.52.0"
