"""The attempts of a night: which RayJob is followed or made next, and whose drivers still run.

Pure. An attempt is a RayJob with the night's name, which from the second on ends with its number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Final

from ray_job.submit import rayjob
from ray_job.submit.rayjob import Resource

_CLUSTER_LABEL: Final = "ray.io/cluster"
"""KubeRay's label of a pod: the name of its RayCluster, which is the RayJob's with a random end."""
_NODE_TYPE_LABEL: Final = "ray.io/node-type"


def of_night(rayjobs: Iterable[Resource], as_of: date) -> dict[int, Resource]:
    """The RayJobs of a night by the number of their attempt, whoever made them."""
    names = {
        rayjob.night_name(as_of, number): number for number in range(1, rayjob.LAST_ATTEMPT + 1)
    }
    return {
        names[resource["metadata"]["name"]]: resource
        for resource in rayjobs
        if resource["metadata"]["name"] in names
    }


def followed(attempts: Mapping[int, Resource], *, force: bool) -> Resource | None:
    """The RayJob that a submitter waits for; None if a further attempt is due.

    It is the newest that may go on, else the newest that succeeded. With `force` one that succeeded
    does not count.
    """
    newest_first = [attempts[number] for number in sorted(attempts, reverse=True)]
    ends = [(resource, rayjob.end(resource)) for resource in newest_first]
    for resource, end in ends:
        if end is None:
            return resource
    for resource, end in ends:
        if end is not None and end.reason == "succeeded" and not force:
            return resource
    return None


def next_number(attempts: Mapping[int, Resource]) -> int:
    """The number of a further attempt. A number below the newest one is not used again."""
    return max(attempts, default=0) + 1


def missed_deadlines(attempts: Mapping[int, Resource]) -> set[str]:
    """The names of the attempts that met their deadline."""
    return {
        resource["metadata"]["name"]
        for resource in attempts.values()
        if (end := rayjob.end(resource)) is not None and end.reason == "deadline"
    }


def clusters_with_driver(
    pods: Iterable[Resource], attempts: Mapping[int, Resource], as_of: date
) -> list[str]:
    """The RayClusters of a night whose head still runs, although their RayJob has ended or is gone.

    The driver runs in the head. `attempts` has to be read after `pods`: then a head whose RayJob is
    missing has lost it.
    """
    name_of_cluster = re.compile(rf"{rayjob.night_name(as_of)}(?:-([2-9]))?-[a-z0-9]+")
    remaining = set()
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        match = name_of_cluster.fullmatch(labels.get(_CLUSTER_LABEL, ""))
        if match is None or labels.get(_NODE_TYPE_LABEL) != "head":
            continue
        if (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}:
            continue
        owner = attempts.get(int(match.group(1) or 1))
        if owner is None or rayjob.end(owner) is not None:
            remaining.add(match.group())
    return sorted(remaining)
