"""A cluster that somebody gives by a context of KUBECONFIG, instead of our own.

The tests get a kubeconfig of their own for it, with a token of cluster-admin and an address that is
reached from where they run. A cluster of kind's gets KubeRay and the project's images, and its
machines are taken away and given back. Another one has both already, and tests that take machines
are skipped.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from typing import Any

from tests.cluster import build, namespaces, seed
from tests.cluster.control_plane import kubectl
from tests.cluster.kind import PREFIX, KindMachines
from tests.cluster.places import CONTEXT, HERE, KUBECONFIG, KUBECTL, STATE

_ADMIN = "storecast-tests"
_CERTIFICATE = STATE / "cluster.crt"


class GivenError(Exception):
    """The cluster cannot be taken; the message says why."""


def prepare(kuberay: str, *, with_previous: bool) -> None:
    """Make the cluster ready for the tests, with KubeRay's operator of that version.

    The process's environment gets the storage's address. Raises GivenError.
    """
    if namespaces.init() is not None:
        raise GivenError("a cluster of our own is up: python -m tests.cluster down ends it")
    nodes = _read("get", "nodes")["items"]
    machines = machines_of(nodes)
    if machines is not None and os.geteuid() != 0:
        raise GivenError("the tests run in the network of kind's node, which needs root")
    shutil.rmtree(STATE, ignore_errors=True)
    STATE.mkdir(parents=True)
    (STATE / "kuberay").write_text(kuberay)
    build.copy_definitions(kuberay)
    endpoint = _read("get", "endpointslice", "kubernetes", "--namespace=default")
    host, port = endpoint["endpoints"][0]["addresses"][0], endpoint["ports"][0]["port"]
    if machines is None:
        _write_kubeconfig()
        if "STORECAST_CLUSTER_STORAGE" not in os.environ:
            raise GivenError(
                "STORECAST_CLUSTER_STORAGE=ADDRESS:443 is missing: where the tests serve the fake"
                " storage, and the cluster's pods reach it"
            )
        _check_version(kuberay)
    else:
        _write_kubeconfig(f"https://{host}:{port}")
        os.environ.setdefault("STORECAST_CLUSTER_STORAGE", f"{host}:443")
        machines.prepare(kuberay, with_previous=with_previous)
    seed.make()


def entered(*command: str) -> list[str]:
    """The command, run where the cluster's Services are reached."""
    machines = machines_of(_read("get", "nodes")["items"])
    return [*command] if machines is None else machines.entered(*command)


def machines_of(nodes: list[dict[str, Any]]) -> KindMachines | None:
    """Those of a cluster of kind's, from its nodes; None of one that has no provider.

    Raises GivenError for a provider's: the tests take away nodes, and KubeRay's definitions.
    """
    identities = [node["spec"].get("providerID", "") for node in nodes]
    if identities and all(identity.startswith(PREFIX) for identity in identities):
        try:
            return KindMachines.of(nodes)
        except ValueError as error:
            raise GivenError(str(error)) from error
    if any(identities):
        raise GivenError(f"{CONTEXT} is the cluster of a provider, {identities[0]}: not for tests")
    return None


def _write_kubeconfig(server: str | None = None) -> None:
    """KUBECONFIG for the tests: an account of theirs, and the API server at that address."""
    _call(
        "apply", "--server-side", "--filename", str(HERE / "manifests" / "tests-account.yaml")
    )  # fmt: skip
    token = _call("create", "token", _ADMIN, "--namespace=kube-system", "--duration=12h").strip()
    document = _read("config", "view", "--raw", "--flatten", "--minify")
    cluster = document["clusters"][0]["cluster"]
    _CERTIFICATE.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    cluster = {"server": server or cluster["server"], "certificate-authority": str(_CERTIFICATE)}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "given", "cluster": cluster}],
        "users": [{"name": _ADMIN, "user": {"token": token}}],
        "contexts": [{"name": "given", "context": {"cluster": "given", "user": _ADMIN}}],
        "current-context": "given",
    }
    KUBECONFIG.write_text(json.dumps(document))
    KUBECONFIG.chmod(0o600)


def _check_version(kuberay: str) -> None:
    """Raises GivenError unless the cluster has the RayJob of that version."""
    definition = subprocess.run(
        kubectl("get", "crd", "rayjobs.ray.io", "--output=json"),
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if definition.returncode:
        raise GivenError(f"{CONTEXT} has no RayJobs: install KubeRay's operator {kuberay}")
    is_old = "preRunningDeadlineSeconds" not in definition.stdout
    if is_old != kuberay.startswith("1.5."):
        raise GivenError(f"{CONTEXT} has no KubeRay {kuberay}: KUBERAY=VERSION says which it has")


def _read(*arguments: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_call(*arguments, "--output=json"))
    return document


def _call(*arguments: str) -> str:
    """kubectl with the given context. Raises GivenError."""
    program = KUBECTL if KUBECTL.exists() else "kubectl"
    process = subprocess.run(
        [str(program), f"--context={CONTEXT}", *arguments],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if process.returncode:
        raise GivenError(f"{CONTEXT}: {process.stderr.strip()[-500:]}")
    return process.stdout
