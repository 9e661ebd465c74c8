"""Objects of the cluster, read from its API and changed by kubectl, both as cluster-admin.

What is done often is done by HTTP: each kubectl takes a quarter of a second of a processor.
"""

from __future__ import annotations

import atexit
import json
import ssl
import subprocess
from functools import cache
from typing import Any

import httpx

from tests.cluster.control_plane import kubectl
from tests.cluster.places import KUBECONFIG, NAMESPACE
from tests.cluster.processes import wait_until

Resource = dict[str, Any]

_GROUPS = {
    "apis/apps/v1": {"deployments"},
    "apis/batch/v1": {"jobs", "cronjobs"},
    "apis/autoscaling/v2": {"horizontalpodautoscalers"},
    "apis/discovery.k8s.io/v1": {"endpointslices"},
    "apis/apiregistration.k8s.io/v1": {"apiservices"},
    "apis/apiextensions.k8s.io/v1": {"customresourcedefinitions"},
    "apis/ray.io/v1": {"rayjobs", "rayclusters"},
}
"""The kinds of each group of the API. All others are of the core."""
_WITHOUT_NAMESPACE = {"apiservices", "customresourcedefinitions", "namespaces", "nodes"}
_PATIENCE = 60
"""Seconds for which the API server may not answer."""


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
    """The object; None if there is none. `kind` in the singular."""
    response = _answer("GET", f"{_path(f'{kind}s', namespace)}/{name}")
    if response.status_code == httpx.codes.NOT_FOUND:
        return None
    document: Resource = response.raise_for_status().json()
    return document


def listed(kind: str, selector: str = "", namespace: str = NAMESPACE) -> list[Resource]:
    """The objects of a kind in the plural."""
    response = _answer("GET", _path(kind, namespace), params={"labelSelector": selector})
    items: list[Resource] = response.raise_for_status().json()["items"]
    return items


def _path(kinds: str, namespace: str) -> str:
    group = next((group for group, known in _GROUPS.items() if kinds in known), "api/v1")
    return (
        f"{group}/{kinds}"
        if kinds in _WITHOUT_NAMESPACE
        else f"{group}/namespaces/{namespace}/{kinds}"
    )


def _answer(method: str, path: str, **request: Any) -> httpx.Response:
    """The API server's answer, also where it is away for a while."""
    answers: list[httpx.Response] = []

    def answered() -> bool:
        try:
            response = _client().request(method, path, **request)
        except httpx.TransportError:
            return False
        if response.is_server_error:
            return False
        answers.append(response)
        return True

    wait_until(_PATIENCE, "the API server's answer", answered, 0.5)
    return answers[0]


@cache
def _client() -> httpx.Client:
    document = json.loads(KUBECONFIG.read_text())
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    client = httpx.Client(
        base_url=cluster["server"],
        headers={"authorization": f"Bearer {user['token']}"},
        verify=ssl.create_default_context(cafile=cluster["certificate-authority"]),
        timeout=30,
    )
    atexit.register(client.close)
    return client


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


def delete(kind: str, name: str, *, seconds: int | None = None, namespace: str = NAMESPACE) -> None:
    """Delete without waiting; nothing happens if it is gone. `kind` in the plural.

    A pod has `seconds` to end, by default its own grace period.
    """
    options: Resource = {"propagationPolicy": "Background"}
    if seconds is not None:
        options["gracePeriodSeconds"] = seconds
    response = _answer("DELETE", f"{_path(kind, namespace)}/{name}", json=options)
    if response.status_code != httpx.codes.NOT_FOUND:
        response.raise_for_status()


def kill(pod: str, namespace: str = NAMESPACE) -> None:
    """End a pod at once, as if its node had gone."""
    delete("pods", pod, seconds=0, namespace=namespace)


def log(pod: str) -> str:
    """What the container of a pod has printed so far; why nobody knows, where it cannot be read."""
    try:
        response = _client().get(f"{_path('pods', NAMESPACE)}/{pod}/log")
    except httpx.TransportError as error:
        return f"no log of {pod}: {error}"
    return response.text if response.is_success else f"no log of {pod}: {response.text}"


def execute(pod: str, *command: str, container: str | None = None) -> str:
    """What a command prints in a pod. Raises KubectlError."""
    where = [f"--container={container}"] if container else []
    return call("exec", f"--namespace={NAMESPACE}", pod, *where, "--", *command)


def wait_for_gone(kind: str, selector: str = "", seconds: float = 120) -> None:
    wait_until(seconds, f"the end of {kind} {selector}", lambda: not listed(kind, selector))


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


def wait_for_new_pods() -> None:
    """Wait until the API's new pods are ready and its old ones have been told to stop."""
    call(
        "rollout", "status", "deployment/storecast-api", f"--namespace={NAMESPACE}",
        "--timeout=400s", timeout=420,
    )  # fmt: skip


def wait_for_rollout() -> None:
    """Wait until the API's new pods are ready and its old ones have drained."""
    wait_for_new_pods()
    wait_until(
        180,
        "the end of the old pods",
        lambda: len(names("pods", "app.kubernetes.io/component=api")) == len(ready_api_pods()),
        1,
    )


@cache
def api_url() -> str:
    """The address of the API's Service, which lives as long as the namespace."""
    service = get("service", "storecast-api")
    assert service is not None
    return f"http://{service['spec']['clusterIP']}"


def api_server() -> tuple[str, int]:
    """Where pods reach the API server: what is behind its Service."""
    slice_ = get("endpointslice", "kubernetes", "default")
    assert slice_ is not None
    return slice_["endpoints"][0]["addresses"][0], slice_["ports"][0]["port"]


def evict(pod: str) -> None:
    """Evict a pod as a drain does. Raises KubectlError where a budget forbids it now."""
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": NAMESPACE},
    }
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
    call("create", f"--raw={path}", "--filename=-", stdin=json.dumps(eviction))
