"""RayJobs as data: their names, how one is made from the template, and what their status means.

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
"""How long a finished RayJob stays to be looked at."""

Reason = Literal[
    "succeeded",
    "stopped",
    "invalid",
    "deadline",
    "not_started",
    "head_lost",
    "driver_failed",
    "deleted",
]
TRANSIENT: Final[frozenset[Reason]] = frozenset({"head_lost", "not_started"})
"""Ends that say nothing about the night: the same submission may succeed."""

_SENTENCES: Final[dict[Reason, str]] = {
    "succeeded": "succeeded",
    "stopped": "was stopped by somebody",
    "invalid": "was refused by the operator as invalid",
    "deadline": "did not finish before its deadline",
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
_SUPERVISOR_DIED: Final = re.compile(
    r"actor (died|is dead)|supervisor|node .*(died|dead|lost)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class End:
    """How a RayJob ended, with the operator's own words."""

    reason: Reason
    message: str = ""

    @property
    def transient(self) -> bool:
        return self.reason in TRANSIENT

    def sentence(self, name: str) -> str:
        said = self.message.strip().splitlines()[0] if self.message.strip() else ""
        return f"RayJob {name} {_SENTENCES[self.reason]}{': ' if said else ''}{said}"


def night_name(as_of: date, attempt: int = 1) -> str:
    """The same for every submitter of a night, so that the cluster lets one of them create it."""
    return f"storecast-{as_of:%Y%m%d}" + (f"-{attempt}" if attempt > 1 else "")


def adhoc_name(as_of: date, now: datetime, token: str) -> str:
    """A name of its own; `token` is a few random lower-case letters or digits."""
    return f"storecast-adhoc-{as_of:%Y%m%d}-{now:%H%M%S}-{token}"


def night_of_schedule(scheduled: str, zone: ZoneInfo) -> date:
    """The as-of of a CronJob's scheduled time (RFC 3339): the day before it, in `zone`.

    Raises ValueError where the text is not such a time.
    """
    moment = datetime.fromisoformat(scheduled)
    if moment.tzinfo is None:
        raise ValueError(f"{scheduled!r} has no offset from UTC")
    return moment.astimezone(zone).date() - timedelta(days=1)


def entrypoint(as_of: date, *, adhoc: bool, force: bool = False) -> str:
    """What the driver runs. A run for an engineer brings nothing in and publishes nothing."""
    if adhoc:
        return f"storecast run --as-of {as_of} --no-publish"
    return f"storecast run --ingest --as-of {as_of}" + (" --force" if force else "")


def build(template: Resource, name: str, as_of: date, *, entrypoint: str, adhoc: bool) -> Resource:
    """The RayJob `name` for `as_of`, from the template that lies in the cluster.

    The driver runs in the head's container and learns from STORECAST_SUBMISSION whose run it is.
    Raises ValueError where the template has no head container.
    """
    spec = deepcopy(template["spec"])
    spec.pop("suspend", None)
    spec["entrypoint"] = entrypoint
    try:
        head = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"the template {TEMPLATE} has no container for the head") from error
    others = [item for item in head.get("env") or [] if item["name"] != "STORECAST_SUBMISSION"]
    head["env"] = [*others, {"name": "STORECAST_SUBMISSION", "value": name}]
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
    """Where a RayJob is, for the heartbeat: the operator's state and Ray's."""
    status = rayjob.get("status") or {}
    deployment = status.get("jobDeploymentStatus") or "New"
    job = status.get("jobStatus") or ""
    return f"{deployment}/{job}" if job else str(deployment)


def end(rayjob: Resource) -> End | None:
    """How a RayJob ended; None while it may still go on, a retry of the operator's included."""
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


def _failure(status: Mapping[str, Any], message: str) -> Reason:
    known = _REASONS.get(str(status.get("reason") or ""))
    if known is not None:
        return known
    if status.get("jobStatus") == "STOPPED":
        return "stopped"
    conditions = (status.get("rayClusterStatus") or {}).get("conditions") or []
    headless = any(
        condition.get("type") == "HeadPodReady" and condition.get("status") == "False"
        for condition in conditions
    )
    return "head_lost" if headless or _SUPERVISOR_DIED.search(message) else "driver_failed"


def prunable(rayjobs: Iterable[Resource], now: datetime) -> list[str]:
    """The names of those that `submit` made, that ended, and that are older than KEPT."""
    return [
        rayjob["metadata"]["name"]
        for rayjob in rayjobs
        if (rayjob["metadata"].get("labels") or {}).items() >= MANAGED_BY.items()
        and end(rayjob) is not None
        and now - datetime.fromisoformat(rayjob["metadata"]["creationTimestamp"]) > KEPT
    ]
