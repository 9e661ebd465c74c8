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

TEMPLATE, ADHOC, API = "storecast-template", "storecast-adhoc", "storecast-api"
SEEN = {"RUNNING", "SUCCEEDED", "FAILED", "STOPPED"}
"""What the operator knows of a driver only from the head's job server."""
SPOT = "cloud.google.com/gke-spot"
GOOGLE_S = {"gke-managed-system", "kube-system"}
"""The namespaces out of which the add-on may work."""


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
    if problem := _not_the_one(live):
        return failed(f"{problem}: give setup again")
    age = "1.6 or newer" if newer else "1.5"
    return passed(f"KubeRay {age}, by {live['OPERATOR']} alone, and the template fits it")


def _not_the_one(live: Live) -> str:
    """Why not exactly the operator of the settings acts on RayJobs; empty if it does."""
    by_addon = value_of(live.gke(), "addonsConfig.rayOperatorConfig.enabled") is True
    deployments = live.kubectl(
        "get",
        "deployments",
        "--all-namespaces",
        "--selector=app.kubernetes.io/name=kuberay-operator",
    )["items"]
    charts = [
        f"the operator in namespace {deployment['metadata']['namespace']}"
        for deployment in deployments
        if deployment["metadata"]["namespace"] not in GOOGLE_S
    ]
    acting = [*(["GKE's add-on"] if by_addon else []), *charts]
    if len(acting) != 1:
        return f"{' and '.join(acting)} act on each RayJob" if acting else "no Ray operator runs"
    if by_addon != (live["OPERATOR"] == "addon"):
        return f"{acting[0]} acts, and OPERATOR is {live['OPERATOR']}"
    return ""


def _template(live: Live) -> Json:
    return live.kubectl("get", "rayjob", TEMPLATE)["spec"]


def _templates(live: Live) -> dict[str, Json]:
    """The templates of all pods of ours, by their names here: Ray's first, by their groups."""
    night = _template(live)
    templates = _ray_templates(night["rayClusterSpec"])
    templates["submitter"] = night["submitterPodTemplate"]
    adhoc = live.kubectl("get", "raycluster", ADHOC)["spec"]
    templates |= {f"adhoc-{name}": pod for name, pod in _ray_templates(adhoc).items()}
    for cron_job in live.kubectl("get", "cronjobs")["items"]:
        job = cron_job["spec"]["jobTemplate"]["spec"]
        templates[cron_job["metadata"]["name"]] = job["template"]
    api = live.kubectl("get", "deployment", API)
    return templates | {API: api["spec"]["template"]}


def _ray_templates(cluster: Json) -> dict[str, Json]:
    return {"head": cluster["headGroupSpec"]["template"]} | {
        group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]
    }


def _pod(name: str, template: Json) -> Json:
    return {
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


def _admitted(live: Live, pod: Json) -> Json:
    """The pod as the API server would store it. Raises UnansweredError if it is refused."""
    command = ("create", "--dry-run=server", "--filename=-")
    return live.kubectl(*command, given=json.dumps(pod))["spec"]


def admission(live: Live) -> Verdict:
    changes = []
    templates = _templates(live)
    for name, template in templates.items():
        pod = _pod(name, template)
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
    return passed(f"Autopilot admits the {len(templates)} kinds of pods with what they ask for")


def _quantity(text: str) -> float:
    """A quantity of Kubernetes as a number."""
    units = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 1e3, "M": 1e6, "G": 1e9}
    for unit, factor in units.items():
        if text.endswith(unit):
            return round(float(text.removesuffix(unit)) * factor, 3)
    return float(text)


def spot(live: Live) -> Verdict:
    pod = _pod("spot", _ray_templates(_template(live)["rayClusterSpec"])["spot"])
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
    known = [job for job in jobs if value_of(job, "status.jobStatus") in SEEN]
    if known:
        return passed(f"{known[-1]['metadata']['name']}: the operator knows its driver")
    if not jobs:
        return not_seen("no night has run yet: run the first one, as setup prints it")
    state = value_of(jobs[-1], "status.jobDeploymentStatus")
    if state not in {"Failed", "Complete"}:
        return not_seen(
            f"{jobs[-1]['metadata']['name']} is {state}: give verify again when it ended"
        )
    reason = value_of(jobs[-1], "status.reason") or state
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
