"""The Job of a night on the cluster: made from the CronJob, watched, and read when it has ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from ray_job.submit.rayjob import TEMPLATE, night_name
from tests.cluster import objects
from tests.cluster.objects import Resource
from tests.cluster.places import BUCKET, NAMESPACE, REPORT
from tests.cluster.processes import wait_until
from tests.k8s.support.nights import YESTERDAY

CRON = "storecast-nightly"
RAYJOB = night_name(YESTERDAY)
"""The name of the newest night's first RayJob."""
PATIENCE = 900
"""Seconds that a night may take on a busy machine."""


@dataclass
class NightlyJob:
    """`exit_codes` are those of its pods, in the order in which they ended."""

    name: str
    exit_codes: list[int] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    condition: str = ""
    reason: str = ""

    @property
    def log(self) -> str:
        return "\n".join(self.logs)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    @property
    def outcomes(self) -> list[tuple[str, int | None]]:
        """Outcome and exit code of each submission that ended by itself."""
        return [
            (event["outcome"], event["exit_code"])
            for event in self.events
            if event["event"] == "submit_finished"
        ]


def start(
    name: str = "night",
    *,
    cron_job: str = CRON,
    as_of: date = YESTERDAY,
    options: tuple[str, ...] = (),
    change: Callable[[Resource], None] = lambda _job: None,
) -> NightlyJob:
    """A Job of the CronJob, as `kubectl create job --from` makes it, with further options.

    Its night is that of the newest file of sales, also when another day has begun since.
    """
    cron = objects.get("cronjob", cron_job)
    assert cron is not None
    job: Resource = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "annotations": {"cronjob.kubernetes.io/instantiate": "manual"},
        },
        "spec": cron["spec"]["jobTemplate"]["spec"],
    }
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["args"] += options
    if cron_job == CRON:
        container["args"] += ["--as-of", str(as_of)]
    change(job)
    objects.create(job)
    return NightlyJob(name)


def finish(night: NightlyJob, seconds: float = PATIENCE) -> NightlyJob:
    """Wait for the end of the Job, and read its pods."""

    def ended() -> bool:
        job = objects.get("job", night.name)
        assert job is not None
        for condition in (job.get("status") or {}).get("conditions") or []:
            if condition["type"] in {"Complete", "Failed"} and condition["status"] == "True":
                night.condition = condition["type"]
                night.reason = condition.get("reason", "")
                return True
        return False

    wait_until(seconds, f"the end of Job {night.name}", ended)
    collect(night)
    return night


def pods(night: NightlyJob) -> list[Resource]:
    return sorted(
        objects.listed("pods", f"batch.kubernetes.io/job-name={night.name}"),
        key=lambda pod: pod["metadata"]["creationTimestamp"],
    )


def collect(night: NightlyJob) -> None:
    """Read exit codes and logs of the Job's pods, as far as they are."""
    codes, logs = [], []
    for pod in pods(night):
        for status in (pod.get("status") or {}).get("containerStatuses") or []:
            ended = (status.get("state") or {}).get("terminated")
            if ended is not None:
                codes.append(ended["exitCode"])
        if objects.phase(pod) in {"Running", "Succeeded", "Failed"}:
            logs.append(objects.log(pod["metadata"]["name"]))
    night.exit_codes, night.logs = codes, logs


def history(night: NightlyJob) -> list[tuple[datetime, str]]:
    """What the cluster, the submitter and the driver said about a night, with the moments.

    The cluster's events have whole seconds.
    """
    moments = []
    for event in objects.listed("events"):
        about = event["involvedObject"]
        if (
            about["kind"] in {"CronJob", "Job", "RayJob", "RayCluster"}
            and about["name"] != TEMPLATE
        ):
            moment = event["firstTimestamp"] or event["metadata"]["creationTimestamp"]
            text = f"{about['kind']} {about['name']}: {event['message']}"
            moments.append((datetime.fromisoformat(moment), text))
    said = [(datetime.fromisoformat(event["time"]), event["message"]) for event in night.events]
    return moments + said


def report_history(title: str, moments: Iterable[tuple[datetime, str]], since: datetime) -> None:
    lines = [
        f"{moment.astimezone(UTC):%H:%M:%S.%f}"[:-5] + f"  {text}"
        for moment, text in sorted(moments, key=lambda entry: entry[0])
        if moment >= since
    ]
    report(title, lines)


def wait_for_phase(wanted: str, seconds: float = PATIENCE, rayjob: str = RAYJOB) -> None:
    """Wait until a night is in a phase: new, head, driver, publishing, ended."""
    wait_until(seconds, f"the phase {wanted} of {rayjob}", lambda: is_in(wanted, rayjob), 0.2)


def is_in(wanted: str, name: str) -> bool:
    resource = objects.get("rayjob", name)
    if resource is None:
        return False
    status = resource.get("status") or {}
    match wanted:
        case "new":
            return True
        case "head":
            return bool(head_pods(status))
        case "driver":
            return status.get("jobStatus") == "RUNNING"
        case "ended":
            return status.get("jobDeploymentStatus") in {"Complete", "Failed"}
    raise ValueError(wanted)


def head_pods(status: Resource) -> list[Resource]:
    cluster = status.get("rayClusterName")
    if not cluster:
        return []
    return objects.listed("pods", f"ray.io/cluster={cluster},ray.io/node-type=head")


def clean() -> None:
    """No Job, no RayJob and no Ray pod of an earlier test."""
    for kind, keep in (("jobs", ()), ("rayjobs", ("storecast-template",))):
        for name in objects.names(kind):
            if name not in keep:
                objects.delete(kind, name)
    for pods in ("ray.io/cluster", "app.kubernetes.io/component=submitter"):
        for name in objects.names("pods", pods):
            objects.kill(name)
        objects.wait_for_gone("pods", pods, 180)


def suspend_schedules() -> None:
    """No CronJob makes a Job by itself: a night of its own would be beside that of a test."""
    for cron_job in (CRON, "storecast-hourly"):
        objects.patch("cronjob", cron_job, {"spec": {"suspend": True}})


def scheduled() -> set[str]:
    """The Jobs that the CronJob's schedule has made."""
    return {
        job["metadata"]["name"]
        for job in objects.listed("jobs")
        if job["metadata"]["name"].startswith(f"{CRON}-")
    }


def submit_here(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`storecast submit` as an engineer gives it, on this machine."""
    return subprocess.run(
        [sys.executable, "-m", "ray_job", "submit", *options],
        env={
            **os.environ,
            "STORECAST_BUCKET": f"gs://{BUCKET}",
            "STORECAST_NAMESPACE": NAMESPACE,
            **environment,
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def report(title: str, lines: Iterable[str]) -> None:
    """Figures of a test, which `python -m tests.cluster test` prints when all have ended."""
    with REPORT.open("a") as file:
        file.write(f"{title}\n" + "".join(f"  {line}\n" for line in lines))


def write_kubeconfig(folder: Path, document: Resource) -> Path:
    path = folder / "kubeconfig"
    path.write_text(json.dumps(document))
    return path
