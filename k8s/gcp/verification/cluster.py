# ruff: noqa: INP001 - scripts beside those that call them
"""Checks of the cluster: what kubectl shows, and what Autopilot's admission makes of our pods."""

from __future__ import annotations

import json
from typing import Any

from k8s.gcp.verification.answers import (
    Json,
    Live,
    UnansweredError,
    Verdict,
    failed,
    not_seen,
    passed,
    value_of,
)

TEMPLATE = "storecast-template"
SPOT = "cloud.google.com/gke-spot"


def operator(live: Live) -> Verdict:
    """The add-on's version is GKE's: the fields of its definition say which it is."""
    definition = live.kubectl("get", "customresourcedefinition", "rayjobs.ray.io")
    (version,) = (each for each in definition["spec"]["versions"] if each["name"] == "v1")
    spec = "schema.openAPIV3Schema.properties.spec.properties"
    if not value_of(version, f"{spec}.rayClusterSpec.properties.authOptions"):
        return failed("KubeRay is older than 1.5.1: OPERATOR=helm, or a newer version of GKE")
    newer = value_of(version, f"{spec}.preRunningDeadlineSeconds") is not None
    template = _template(live)
    if newer and "preRunningDeadlineSeconds" not in template:
        return failed("KubeRay is 1.6 or newer, and the template is an older one's: setup again")
    age = "1.6 or newer" if newer else "1.5"
    return passed(f"KubeRay {age}, by {live['OPERATOR']}, and the template fits it")


def _template(live: Live) -> Json:
    return live.kubectl("get", "rayjob", TEMPLATE)["spec"]


def _pods(live: Live) -> dict[str, Json]:
    """The pods that KubeRay makes from the template, by the name of their group."""
    spec = _template(live)
    cluster = spec["rayClusterSpec"]
    groups = {"head": cluster["headGroupSpec"]["template"]} | {
        group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]
    }
    groups["submitter"] = spec["submitterPodTemplate"]
    return {
        name: {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "generateName": f"verify-{name}-",
                **{
                    key: value
                    for key, value in template.get("metadata", {}).items()
                    if key in {"labels", "annotations"}
                },
            },
            "spec": template["spec"],
        }
        for name, template in groups.items()
    }


def _admitted(live: Live, pod: Json) -> Json:
    """The pod as the API server would store it. Raises UnansweredError if it is refused."""
    command = ("create", "--dry-run=server", "--filename=-")
    return live.kubectl(*command, given=json.dumps(pod))["spec"]


def admission(live: Live) -> Verdict:
    changes = []
    for name, pod in _pods(live).items():
        try:
            admitted = _admitted(live, pod)
        except UnansweredError as error:
            return failed(f"Autopilot refuses the pod {name}: {error}")
        for asked, given in zip(pod["spec"]["containers"], admitted["containers"], strict=False):
            changes += [
                f"{name} asks for {resource} {amount} and gets"
                f" {value_of(given, 'resources.requests').get(resource)}"
                for resource, amount in asked["resources"]["requests"].items()
                if _quantity(value_of(given, "resources.requests").get(resource, "0"))
                != _quantity(amount)
            ]
    if changes:
        return failed("; ".join(changes) + ": change the manifests to what Autopilot gives")
    return passed("Autopilot admits each pod with the resources that it asks for")


def _quantity(text: str) -> float:
    """A quantity of Kubernetes as a number."""
    units = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 1e3, "M": 1e6, "G": 1e9}
    for unit, factor in units.items():
        if text.endswith(unit):
            return round(float(text.removesuffix(unit)) * factor, 3)
    return float(text)


def spot(live: Live) -> Verdict:
    pod = _pods(live)["spot"]
    try:
        admitted = _admitted(live, pod)
    except UnansweredError as error:
        return failed(f"Autopilot refuses a pod on Spot: {error}")
    tolerated = {toleration.get("key") for toleration in admitted.get("tolerations", [])}
    if admitted.get("nodeSelector", {}).get(SPOT) != "true" or SPOT not in tolerated:
        return failed(f"the pod keeps no selector or gets no toleration of {SPOT}: it would wait")
    return passed("a pod that selects Spot is admitted and tolerates it")


def head_reached(live: Live) -> Verdict:
    """The operator asks the head's job server; network policies decide whether it may."""
    selector = "--selector=app.kubernetes.io/component=run"
    jobs = live.kubectl("get", "rayjobs", selector)["items"]
    jobs.sort(key=lambda job: job["metadata"]["creationTimestamp"])
    ended = [job for job in jobs if value_of(job, "status.jobStatus") in {"SUCCEEDED", "FAILED"}]
    if ended:
        return passed(f"{ended[-1]['metadata']['name']}: the operator knows how its driver ended")
    if not jobs:
        return not_seen("no night has run yet: run the first one, as setup prints it")
    reason = value_of(jobs[-1], "status.reason") or value_of(jobs[-1], "status.jobDeploymentStatus")
    return failed(
        f"{jobs[-1]['metadata']['name']} is {reason} and its driver was never seen: the operator's"
        " namespace may not reach port 8265 (k8s/base/job/network.yaml)"
    )


def gateway(live: Live) -> Verdict:
    described = live.kubectl("get", "gateway", "storecast")
    reserved = live.gcloud("compute", "addresses", "describe", "storecast", "--global")["address"]
    problem = _problem(value_of(described, "status.conditions"), "Programmed")
    if problem:
        return failed(f"Gateway: {problem}")
    addresses = [entry["value"] for entry in value_of(described, "status.addresses") or []]
    if reserved not in addresses:
        return failed(f"the Gateway has {addresses}, and {reserved} is the reserved address")
    route = live.kubectl("get", "httproute", "storecast-api")
    for parent in value_of(route, "status.parents") or [{}]:
        for condition in ("Accepted", "ResolvedRefs"):
            if problem := _problem(parent.get("conditions"), condition):
                return failed(f"HTTPRoute: {problem}")
    for kind in ("gcpbackendpolicy", "healthcheckpolicy"):
        policy = live.kubectl("get", kind, "storecast-api")
        if problem := _problem(value_of(policy, "status.conditions"), "Attached"):
            return failed(f"{kind}: {problem}")
    return passed(f"programmed at {reserved}, with its policies attached")


def _problem(conditions: list[dict[str, Any]] | None, kind: str) -> str:
    """Why the condition is not true; empty if it is."""
    for condition in conditions or []:
        if condition["type"] == kind:
            text = f"{kind} is {condition['status']}: {condition.get('message', '')}"
            return "" if condition["status"] == "True" else text
    return f"{kind} is not reported yet; give verify again in some minutes"
