"""A night that is submitted: its names, its statuses, its receipt and its events."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from datetime import UTC, date, datetime

from ray_job.bucket import receipts
from ray_job.bucket.receipts import Receipt
from ray_job.submit import rayjob
from ray_job.submit.cluster import Pace
from tests.fake_kubernetes.objects import Place

NAMESPACE = "storecast"
NIGHT = date(2026, 11, 22)
NOW = datetime(2026, 11, 23, 0, 0, 5, tzinfo=UTC)
NAME = "storecast-20261122"
FAST = Pace(watch=1, retry=0.02, patience=2, heartbeat=0.1)
SUCCEEDED = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
RUNNING = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}


def rayjob_place(name):
    return Place("rayjobs.ray.io", NAMESPACE, name)


def leave_receipt(storage, name, exit_code=0, *, run_id="r1", published=True, status="published"):
    receipts.write(
        storage,
        Receipt(
            run_id=run_id,
            status=status,
            exit_code=exit_code,
            as_of=NIGHT,
            release="x",
            published=published,
            submission=name,
            started_at=NOW,
            finished_at=NOW,
            seconds=1.0,
        ),
    )


def events(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def rayjobs(fake):
    resources = fake.objects.list("rayjobs.ray.io", NAMESPACE)
    return {resource["metadata"]["name"] for resource in resources} - {rayjob.TEMPLATE}


def start_head(fake, cluster, phase="Running", **status):
    """A head's pod as KubeRay makes it; returns its place."""
    name = f"{cluster}-head-x7k2p"
    labels = {"ray.io/cluster": cluster, "ray.io/node-type": "head"}
    place = Place("pods", NAMESPACE, name)
    fake.objects.create(
        place, {"metadata": {"labels": labels}, "status": {"phase": phase, **status}}
    )
    return place


def start_pod(fake, name=NAME):
    pod = {
        "metadata": {"name": "submitter-pod", "labels": {"job-name": name}},
        "spec": {"containers": [{"name": "ray-job-submitter"}]},
        "status": {"phase": "Running"},
    }
    fake.objects.create(Place("pods", NAMESPACE, "submitter-pod"), pod)


def request_count(fake, verb):
    """How many requests of a verb the submitters have made."""
    return sum(request.verb == verb for request in fake.requests)


@contextmanager
def acting_when(ready, act, *arguments):
    """In another thread, call `act` once `ready` is true; not at all if the block ends before."""
    ended = threading.Event()

    def wait_and_act():
        while not ready():
            if ended.is_set():
                return
            time.sleep(0.01)
        act(*arguments)

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
