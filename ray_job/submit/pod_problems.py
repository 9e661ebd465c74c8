"""Why pods of a RayJob do not run: the first reason that Kubernetes gives, as one line. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ray_job.submit.rayjob import Resource

_STARTING: Final = frozenset({"ContainerCreating", "PodInitializing"})
"""Waiting reasons of every start. What hinders such a pod is in its events only."""
_ABOUT_OTHER_STATES: Final = frozenset({"FailedScheduling", "Unhealthy", "BackOff", "Failed"})
"""Events that conditions and container states tell as well, and that stay when they have passed."""
_NODE_TYPES: Final = {"head": 0, "worker": 2}
_SUBMITTER_RANK: Final = 1
_LONGEST_MESSAGE: Final = 300


def problem(rayjob: Resource, pods: Iterable[Resource], warnings: Iterable[Resource]) -> str | None:
    """What keeps the RayJob's pods from running: object, reason and message; None if nothing does.

    The head's reason goes before that of KubeRay's submitter, and this before the workers'. `pods`
    and `warnings` (the events of type Warning) may be those of the whole namespace.
    """
    name = rayjob["metadata"]["name"]
    status = rayjob.get("status") or {}
    cluster = status.get("rayClusterName") or ""
    # An earlier RayJob may have had the same name.
    created = str(rayjob["metadata"].get("creationTimestamp") or "")[:19]
    events = [event for event in warnings if _moment(event) >= created]
    own = sorted(
        (pod for pod in pods if _belongs(pod, name, cluster)),
        key=lambda pod: (_rank(pod), pod["metadata"]["name"]),
    )
    for pod in own:
        for reason, message in _pod_reasons(pod, events):
            return _line(f"pod {pod['metadata']['name']}", reason, message)
    if status.get("jobStatus"):
        return None  # The driver was started, so pods could be created.
    for condition in (status.get("rayClusterStatus") or {}).get("conditions") or []:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return _line(f"RayCluster {cluster}", condition.get("reason"), condition.get("message"))
    for kind, owner in (("RayCluster", cluster), ("RayJob", name), ("Job", name)):
        event = _newest_event(events, kind, owner)
        if event is not None:
            return _line(f"{kind} {owner}", event.get("reason"), event.get("message"))
    return None


def _belongs(pod: Resource, name: str, cluster: str) -> bool:
    labels = pod["metadata"].get("labels") or {}
    if labels.get("job-name") == name:
        return True
    return bool(cluster) and labels.get("ray.io/cluster") == cluster


def _rank(pod: Resource) -> int:
    labels = pod["metadata"].get("labels") or {}
    return _NODE_TYPES.get(labels.get("ray.io/node-type", ""), _SUBMITTER_RANK)


def _pod_reasons(pod: Resource, events: list[Resource]) -> Iterator[tuple[Any, Any]]:
    """Reason and message of each thing that keeps a pod from running."""
    status = pod.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield condition.get("reason"), condition.get("message")
    starting = False
    for kind in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(kind) or []:
            waiting = (container.get("state") or {}).get("waiting")
            if waiting is None:
                continue
            if waiting.get("reason") in _STARTING:
                starting = True
            else:
                yield waiting.get("reason"), waiting.get("message")
    if starting:
        event = _newest_event(events, "Pod", pod["metadata"]["name"])
        if event is not None:
            yield event.get("reason"), event.get("message")
    if status.get("phase") == "Failed" and status.get("reason"):  # for example Evicted
        yield status.get("reason"), status.get("message")


def _newest_event(events: list[Resource], kind: str, name: str) -> Resource | None:
    about = [
        event
        for event in events
        if (event.get("involvedObject") or {}).get("kind") == kind
        and event["involvedObject"].get("name") == name
        and event.get("reason") not in _ABOUT_OTHER_STATES
    ]
    return max(about, key=_moment, default=None)


def _moment(event: Mapping[str, Any]) -> str:
    """When an event was last seen, as RFC 3339 in UTC, which sorts by time."""
    series = event.get("series") or {}
    moments = (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        event.get("firstTimestamp"),
        (event.get("metadata") or {}).get("creationTimestamp"),
    )
    return next((str(moment)[:19] for moment in moments if moment), "")


def _line(subject: str, reason: Any, message: Any) -> str:
    detail = " ".join(str(message or "").split())[:_LONGEST_MESSAGE]
    return f"{subject}: {reason}" + (f": {detail}" if detail else "")
