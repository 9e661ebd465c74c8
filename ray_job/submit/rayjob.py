"""RayJobs as data: their names, how they are made from the template, what their status means.

Pure. The states are those of KubeRay's RayJob (ray.io/v1), releases 1.5 to 1.7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

Resource = dict[str, Any]

TEMPLATE: Final = "storecast-template"
"""A suspended RayJob, which the manifests apply and KubeRay never starts."""
MANAGED_BY: Final = {"app.kubernetes.io/managed-by": "storecast-submit"}
LONGEST_NAME: Final = 47
"""KubeRay's bound: names of the cluster's services are made from it."""
LAST_ATTEMPT: Final = 9
KEPT: Final = timedelta(days=14)
"""How long a finished RayJob is kept, so that its status can be read."""

Reason = Literal[
    "succeeded",
    "stopped",
    "invalid",
    "deadline",
    "second_deadline",
    "not_started",
    "head_lost",
    "driver_failed",
    "deleted",
]
TRANSIENT: Final[frozenset[Reason]] = frozenset({"deadline", "head_lost", "not_started"})
"""Ends after which the same submission may succeed. A further attempt resumes what was done."""
LEAVE_DRIVER: Final[frozenset[Reason]] = TRANSIENT | {"second_deadline"}
"""Ends that the operator decides by a clock or by what it sees: the driver may still run."""

_SENTENCES: Final[dict[Reason, str]] = {
    "succeeded": "succeeded",
    "stopped": "was stopped by somebody",
    "invalid": "was refused by the operator as invalid",
    "deadline": "did not finish before its deadline; a further attempt will resume it",
    "second_deadline": "did not finish before its deadline, as an attempt of this night before it",
    "not_started": "got no running cluster in time",
    "head_lost": "lost its head node, or could not be submitted to it",
    "driver_failed": "failed: its command did not exit with 0",
    "deleted": "was deleted while it ran",
}
_REASONS: Final[dict[str, Reason]] = {
    "DeadlineExceeded": "deadline",
    "PreRunningDeadlineExceeded": "not_started",
    "ValidationFailed": "invalid",
    "SubmissionFailed": "head_lost",
    "JobStatusCheckTimeoutExceeded": "head_lost",
    "JobDeploymentStatusTransitionGracePeriodExceeded": "head_lost",
}
_DRIVER_LOST: Final = re.compile(
    r"actor (died|is dead)|supervisor|node .*(died|dead|lost)|job not found", re.IGNORECASE
)
"""The job's supervisor died with its node, or the head is a new one that knows no job."""


@dataclass(frozen=True, slots=True)
class End:
    """How a RayJob ended. `message` is the operator's, `problem` what kept pods from running."""

    reason: Reason
    message: str = ""
    problem: str | None = None

    @property
    def transient(self) -> bool:
        return self.reason in TRANSIENT

    def sentence(self, name: str) -> str:
        lines = self.message.strip().splitlines()
        detail = f": {lines[0]}" if lines else ""
        pods = f"; {self.problem}" if self.problem else ""
        return f"RayJob {name} {_SENTENCES[self.reason]}{detail}{pods}"


def night_name(as_of: date, attempt: int = 1) -> str:
    """The same for every submitter of a night, so that the cluster lets one of them create it."""
    return f"storecast-{as_of:%Y%m%d}" + (f"-{attempt}" if attempt > 1 else "")


def adhoc_name(as_of: date, now: datetime, token: str) -> str:
    """A name that no other submitter has; `token` is a few random lower-case letters or digits."""
    return f"storecast-adhoc-{as_of:%Y%m%d}-{now:%H%M%S}-{token}"


def night_of_schedule(scheduled: str, zone: ZoneInfo) -> date:
    """The as-of of a CronJob's scheduled time (RFC 3339): the day before it, in `zone`.

    Raises ValueError if the text is not such a time.
    """
    moment = datetime.fromisoformat(scheduled)
    if moment.tzinfo is None:
        raise ValueError(f"{scheduled!r} has no offset from UTC")
    return moment.astimezone(zone).date() - timedelta(days=1)


def entrypoint(as_of: date, *, adhoc: bool, force: bool = False) -> str:
    """The command of the driver. An ad-hoc run ingests nothing and publishes nothing."""
    if adhoc:
        return f"storecast run --as-of {as_of} --no-publish"
    return f"storecast run --ingest --as-of {as_of}" + (" --force" if force else "")


def build(template: Resource, name: str, as_of: date, *, entrypoint: str, adhoc: bool) -> Resource:
    """The RayJob `name` for `as_of`, made from the template that is in the cluster.

    The driver runs in the head's container and gets the name in STORECAST_SUBMISSION. Raises
    ValueError if the template has no head container.
    """
    spec = deepcopy(template["spec"])
    spec.pop("suspend", None)
    spec["entrypoint"] = entrypoint
    try:
        head = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"the template {TEMPLATE} has no container for the head") from error
    variables = [
        variable for variable in head.get("env") or [] if variable["name"] != "STORECAST_SUBMISSION"
    ]
    head["env"] = [*variables, {"name": "STORECAST_SUBMISSION", "value": name}]
    labels = {
        **(template["metadata"].get("labels") or {}),
        **MANAGED_BY,
        "app.kubernetes.io/component": "adhoc-run" if adhoc else "run",
        "storecast/as-of": as_of.isoformat(),
    }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
    }


def phase(rayjob: Resource) -> str:
    """The state of a RayJob, for the heartbeat: the operator's and Ray's."""
    status = rayjob.get("status") or {}
    deployment = status.get("jobDeploymentStatus") or "New"
    job = status.get("jobStatus") or ""
    return f"{deployment}/{job}" if job else str(deployment)


def end(rayjob: Resource) -> End | None:
    """How a RayJob ended; None while it may go on, also by a retry of the operator."""
    status = rayjob.get("status") or {}
    deployment, job = status.get("jobDeploymentStatus"), status.get("jobStatus")
    message = str(status.get("message") or "")
    if deployment == "ValidationFailed":
        return End("invalid", message)
    if deployment == "Complete":
        if job == "SUCCEEDED":
            return End("succeeded", message)
        return End("stopped" if job == "STOPPED" else "driver_failed", message)
    if deployment == "Failed":
        return End(_failure(status, message), message)
    return None


def cluster_name(rayjob: Resource) -> str | None:
    """The RayCluster of a RayJob; None if the operator has not named it yet."""
    return (rayjob.get("status") or {}).get("rayClusterName") or None


def _failure(status: Mapping[str, Any], message: str) -> Reason:
    reason = _REASONS.get(str(status.get("reason") or ""))
    if reason is not None:
        return reason
    if status.get("jobStatus") == "STOPPED":
        return "stopped"
    conditions = (status.get("rayClusterStatus") or {}).get("conditions") or []
    headless = any(
        condition.get("type") == "HeadPodReady" and condition.get("status") == "False"
        for condition in conditions
    )
    return "head_lost" if headless or _DRIVER_LOST.search(message) else "driver_failed"


def prunable(rayjobs: Iterable[Resource], now: datetime) -> list[str]:
    """The names of RayJobs that `submit` made, that have ended and that are older than KEPT."""
    return [
        rayjob["metadata"]["name"]
        for rayjob in rayjobs
        if (rayjob["metadata"].get("labels") or {}).items() >= MANAGED_BY.items()
        and end(rayjob) is not None
        and now - datetime.fromisoformat(rayjob["metadata"]["creationTimestamp"]) > KEPT
    ]
