"""The pods of a set of manifests, also those that KubeRay makes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.k8s.support.manifests import Resource

_HEAD = {"ray.io/node-type": "head"}
_WORKER = {"ray.io/node-type": "worker"}


@dataclass(frozen=True)
class Pod:
    """`owner` is the resource with its template. `labels` include those that KubeRay adds."""

    owner: str
    labels: dict[str, str]
    annotations: dict[str, str]
    spec: dict[str, Any]

    @property
    def containers(self) -> list[dict[str, Any]]:
        return [*self.spec["containers"], *self.spec.get("initContainers", [])]


def _pod(owner: str, template: Resource, **more: str) -> Pod:
    metadata = template.get("metadata", {})
    return Pod(
        owner,
        {**metadata.get("labels", {}), **more},
        metadata.get("annotations", {}),
        template["spec"],
    )


def _ray(owner: str, cluster: Resource) -> Iterator[Pod]:
    yield _pod(f"{owner}/head", cluster["headGroupSpec"]["template"], **_HEAD)
    for group in cluster["workerGroupSpecs"]:
        yield _pod(f"{owner}/{group['groupName']}", group["template"], **_WORKER)


def pods(resources: Iterable[Resource]) -> list[Pod]:
    all_pods: list[Pod] = []
    for resource in resources:
        spec = resource.get("spec", {})
        owner = f"{resource['kind']}/{resource['metadata']['name']}"
        match resource["kind"]:
            case "CronJob":
                all_pods.append(_pod(owner, spec["jobTemplate"]["spec"]["template"]))
            case "Deployment":
                all_pods.append(_pod(owner, spec["template"]))
            case "RayJob":
                all_pods.extend(_ray(owner, spec["rayClusterSpec"]))
                all_pods.append(_pod(f"{owner}/submitter", spec["submitterPodTemplate"]))
            case "RayCluster":
                all_pods.extend(_ray(owner, spec))
    return all_pods


def ray_clusters(resources: Iterable[Resource]) -> list[tuple[str, Resource]]:
    """The specs of RayClusters, those of RayJobs included."""
    return [
        (
            f"{resource['kind']}/{resource['metadata']['name']}",
            resource["spec"]["rayClusterSpec"]
            if resource["kind"] == "RayJob"
            else resource["spec"],
        )
        for resource in resources
        if resource["kind"] in {"RayJob", "RayCluster"}
    ]


def selects(selector: Resource, labels: dict[str, str]) -> bool:
    """Whether a label selector (matchLabels only) matches."""
    assert set(selector) <= {"matchLabels"}, selector
    return labels.items() >= selector.get("matchLabels", {}).items()


def bytes_of(quantity: str) -> int:
    units = {"Mi": 2**20, "Gi": 2**30}
    return int(quantity[:-2]) * units[quantity[-2:]]
