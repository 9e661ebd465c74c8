# ruff: noqa: INP001 - scripts beside those that call them
"""Checks by a pod of each account: what it may do in the bucket, through Workload Identity."""

from __future__ import annotations

import json
import re
from pathlib import Path

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

PROBE = Path(__file__).with_name("probe.py")
ALLOWS = {
    "objectViewer": {"read"},
    "objectCreator": {"create"},
    "objectUser": {"read", "create", "delete"},
}
CREATE_ONLY_LOST = 412


def wanted(grants: str) -> dict[str, dict[str, set[str]]]:
    """For each account what it may do, as sets of prefixes by `read`, `create` and `delete`."""
    accounts: dict[str, dict[str, set[str]]] = {}
    for line in grants.splitlines():
        member, role, condition = line.split(" ", 2)
        may = accounts.setdefault(
            member.rpartition("/sa/")[2], {"read": set(), "create": set(), "delete": set()}
        )
        for action in ALLOWS.get(role.rpartition(".")[2], set()):
            may[action] |= set(re.findall(r'/objects/([^"]*)"', condition))
    return accounts


def seen(live: Live) -> dict[str, Json]:
    """What the pod of each account printed. The pods run once, and are deleted."""
    if live.probed is None:
        live.probed = _run(live)
    return live.probed


def _run(live: Live) -> dict[str, Json]:
    accounts = wanted(live["GRANTS"])
    prefixes = sorted({p for may in accounts.values() for some in may.values() for p in some})
    head = live.kubectl("get", "rayjob", "storecast-template")["spec"]["rayClusterSpec"]
    image = head["headGroupSpec"]["template"]["spec"]["containers"][0]["image"]
    pods = [_pod(name, image, live["BUCKET"], prefixes) for name in accounts]
    listed = {"apiVersion": "v1", "kind": "List", "items": pods}
    names = [f"pod/{pod['metadata']['name']}" for pod in pods]
    try:
        live.run([*live.cluster, "create", "--filename=-"], json.dumps(listed))
        ended = "--for=jsonpath={.status.phase}=Succeeded"
        try:
            live.run([*live.cluster, "wait", ended, "--timeout=4m", *names])
        except UnansweredError as error:
            raise UnansweredError(f"{error}; {_hindered(live, names)}") from error
        return {
            name: json.loads(live.run([*live.cluster, "logs", pod]).splitlines()[-1])
            for name, pod in zip(accounts, names, strict=True)
        }
    finally:
        live.run([*live.cluster, "delete", "--ignore-not-found", "--wait=false", *names])


def _hindered(live: Live, names: list[str]) -> str:
    """What keeps the pods from their end: an image that is not pulled, no node, an error."""
    reasons = []
    for pod in live.kubectl("get", *names)["items"]:
        state, name = pod.get("status", {}), pod["metadata"]["name"]
        for container in state.get("containerStatuses", []):
            waits = value_of(container, "state.waiting") or value_of(container, "state.terminated")
            if waits and waits.get("reason") != "Completed":
                reasons.append(f"{name}: {waits['reason']}: {waits.get('message', '')}")
        reasons += [
            f"{name}: {condition['reason']}: {condition.get('message', '')}"
            for condition in state.get("conditions", [])
            if condition["type"] == "PodScheduled" and condition["status"] == "False"
        ]
    return "; ".join(reasons) or "its pods give no reason"


def _pod(service_account: str, image: str, bucket: str, prefixes: list[str]) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"verify-{service_account}",
            "labels": {
                "app.kubernetes.io/part-of": "storecast",
                "app.kubernetes.io/component": "verify",
            },
        },
        "spec": {
            "serviceAccountName": service_account,
            "automountServiceAccountToken": False,
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "runAsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "verify",
                    "image": image,
                    "command": ["python", "-c", PROBE.read_text(), bucket, *prefixes],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}},
                }
            ],
        },
    }


def workload_identity(live: Live) -> Verdict:
    wrong = []
    for name, may in wanted(live["GRANTS"]).items():
        for prefix, rights in seen(live)[name]["rights"].items():
            for action, is_allowed in rights.items():
                should = any(prefix.startswith(granted) for granted in may[action])
                if is_allowed != should:
                    verb = "may not" if should else "may"
                    wrong.append(f"{name} {verb} {action} in {prefix}")
    if wrong:
        return failed(
            f"{len(wrong)} rights differ, such as: {'; '.join(wrong[:5])}. A grant takes up to 7"
            " minutes; then give setup again"
        )
    return passed("each account may do in each prefix what it is granted, and nothing else")


def create_only(live: Live) -> Verdict:
    """A run that loses a race has to read 412, not 403."""
    try:
        codes = {
            name: answers["race"]
            for name, answers in seen(live).items()
            if name in {"storecast-job", "storecast-adhoc"} and answers["race"] is not None
        }
    except UnansweredError as error:
        return failed(str(error))
    if not codes:
        return not_seen("there is no receipt yet: run the first night, as setup prints it")
    for name, code in codes.items():
        if code != CREATE_ONLY_LOST:
            return failed(
                f"{name} gets {code} for a create-only write to an object that exists: grant"
                " objectUser on results/ and batch_data/ in k8s/gcp/lib.sh"
            )
    return passed("a create-only write to an object that exists is answered with 412")


def api_server(live: Live) -> Verdict:
    if not seen(live)["storecast-submitter"]["kubernetes"]:
        return failed(
            "the submitter's pod does not reach the API server: name its address in"
            " k8s/base/common/network.yaml"
        )
    return passed("the submitter's pod reaches the API server")
