"""Objects of the cluster, read and changed by kubectl as cluster-admin."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.cluster.control_plane import kubectl
from tests.cluster.places import NAMESPACE
from tests.cluster.processes import wait_until

Resource = dict[str, Any]


class KubectlError(Exception):
    """kubectl ended with an error; the message is its last lines."""


def call(*arguments: object, stdin: str | None = None, timeout: float = 120) -> str:
    """What kubectl prints. Raises KubectlError."""
    process = subprocess.run(
        kubectl(*arguments),
        input=stdin,
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if process.returncode:
        raise KubectlError(f"{' '.join(map(str, arguments))}: {process.stderr[-1500:]}")
    return process.stdout


def get(kind: str, name: str, namespace: str = NAMESPACE) -> Resource | None:
    """The object; None if there is none."""
    text = call(
        "get",
        kind,
        name,
        f"--namespace={namespace}",
        "--ignore-not-found",
        "--show-managed-fields",
        "--output=json",
    )
    document: Resource | None = json.loads(text) if text.strip() else None
    return document


def listed(kind: str, selector: str = "", namespace: str = NAMESPACE) -> list[Resource]:
    text = call("get", kind, f"--namespace={namespace}", f"--selector={selector}", "--output=json")
    items: list[Resource] = json.loads(text)["items"]
    return items


def names(kind: str, selector: str = "", namespace: str = NAMESPACE) -> set[str]:
    return {item["metadata"]["name"] for item in listed(kind, selector, namespace)}


def create(document: Resource) -> None:
    call("create", "--filename=-", stdin=json.dumps(document))


def patch(kind: str, name: str, change: Resource, namespace: str = NAMESPACE) -> None:
    """A merge patch, as an engineer gives it."""
    call(
        "patch", kind, name, f"--namespace={namespace}", "--type=merge",
        f"--patch={json.dumps(change)}",
    )  # fmt: skip


def replace(kind: str, name: str, values: dict[str, Any], namespace: str = NAMESPACE) -> None:
    """Replace what is at each JSON pointer."""
    operations = [{"op": "replace", "path": path, "value": value} for path, value in values.items()]
    call(
        "patch", kind, name, f"--namespace={namespace}", "--type=json",
        f"--patch={json.dumps(operations)}",
    )  # fmt: skip


def delete(kind: str, name: str, *options: str, namespace: str = NAMESPACE) -> None:
    """Delete without waiting; nothing happens if it is gone."""
    call(
        "delete", kind, name, f"--namespace={namespace}", "--ignore-not-found", "--wait=false",
        *options,
    )  # fmt: skip


def kill(pod: str) -> None:
    """End a pod at once, as if its node had gone."""
    delete("pod", pod, "--grace-period=0", "--force")


def execute(pod: str, *command: str, container: str | None = None) -> str:
    """What a command prints in a pod. Raises KubectlError."""
    where = [f"--container={container}"] if container else []
    return call("exec", f"--namespace={NAMESPACE}", pod, *where, "--", *command)


def wait_for_gone(kind: str, selector: str = "", seconds: float = 120) -> None:
    wait_until(seconds, f"the end of {kind} {selector}", lambda: not listed(kind, selector), 1)


def phase(pod: Resource) -> str:
    return str((pod.get("status") or {}).get("phase"))


def condition(resource: Resource, kind: str) -> bool:
    """Whether the object has this condition, and it is true."""
    conditions = (resource.get("status") or {}).get("conditions") or []
    return any(entry["type"] == kind and entry["status"] == "True" for entry in conditions)


def is_ready(pod: Resource) -> bool:
    return condition(pod, "Ready")


def ready_api_pods() -> list[Resource]:
    """The API's pods that answer and that nobody has told to stop."""
    return [
        pod
        for pod in listed("pods", "app.kubernetes.io/component=api")
        if is_ready(pod) and "deletionTimestamp" not in pod["metadata"]
    ]


def wait_for_rollout() -> None:
    """Wait until the API's new pods are ready and its old ones have drained."""
    call(
        "rollout", "status", "deployment/storecast-api", f"--namespace={NAMESPACE}",
        "--timeout=400s", timeout=420,
    )  # fmt: skip
    wait_until(
        180,
        "the end of the old pods",
        lambda: len(names("pods", "app.kubernetes.io/component=api")) == len(ready_api_pods()),
        1,
    )


def api_url() -> str:
    """The address of the API's Service."""
    service = get("service", "storecast-api")
    assert service is not None
    return f"http://{service['spec']['clusterIP']}"


def evict(pod: str) -> None:
    """Evict a pod as a drain does. Raises KubectlError where a budget forbids it now."""
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": NAMESPACE},
    }
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
    call("create", f"--raw={path}", "--filename=-", stdin=json.dumps(eviction))
