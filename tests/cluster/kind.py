"""A cluster of kind's, whose nodes are containers.

Each node says in its `spec.providerID` which engine runs it: kind://docker/storecast/NODE.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import images, previous
from tests.cluster.control_plane import kubectl
from tests.cluster.places import BIN, HERE, STATE
from tests.cluster.processes import succeeds, wait_until

RECORD = STATE / "kind.json"
"""The machines of the cluster that was prepared."""
PREFIX = "kind://"
"""Of a node's providerID."""
_MANIFESTS = "/etc/kubernetes/manifests"
_STATIC_PODS = {
    "apiserver": "kube-apiserver",
    "controllers": "kube-controller-manager",
    "scheduler": "kube-scheduler",
}
"""Processes that kubelet starts from a file, by their names in our own cluster."""
_COMM = 15
"""The kernel keeps so many characters of a process's name."""
_OPERATOR = "quay.io/kuberay/operator:v{}"
_METRICS_SERVER = "registry.k8s.io/metrics-server/metrics-server:{}"
_METRICS_MODULE = "sigs.k8s.io/metrics-server"


@dataclass(frozen=True)
class KindMachines:
    """`engine` is docker or podman, `first` the control plane's node, `second` the other one."""

    engine: str
    cluster: str
    first: str
    second: str

    @classmethod
    def of(cls, nodes: list[dict[str, Any]]) -> KindMachines:
        """From the cluster's nodes. Raises ValueError unless there are two, as kind.yaml says."""
        labels = {node["metadata"]["name"]: node["metadata"]["labels"] for node in nodes}
        control = [
            name for name in labels if "node-role.kubernetes.io/control-plane" in labels[name]
        ]
        others = [name for name in labels if name not in control]
        if (len(control), len(others)) != (1, 1):
            raise ValueError(
                f"the nodes {sorted(labels)} are not a control plane and a worker:"
                " kind create cluster --config tests/cluster/kind.yaml"
            )
        identity = nodes[0]["spec"]["providerID"].removeprefix(PREFIX)
        engine, cluster, _ = identity.split("/")
        return cls(engine, cluster, control[0], others[0])

    def entered(self, *command: str) -> list[str]:
        """The command, run in the network of the first node: Services are reached from there."""
        process = self._engine("inspect", "--format={{.State.Pid}}", self.first).strip()
        return ["nsenter", f"--target={process}", "--net", "--", *command]

    def stop(self, process: str) -> None:
        if process == "kubelet-node1":
            self._run("systemctl kill --signal=KILL kubelet; systemctl stop kubelet")
        else:
            name = _STATIC_PODS[process]
            self._run(f"mv {_MANIFESTS}/{name}.yaml /etc/kubernetes/")
            self._run(f"pkill -KILL -x {name[:_COMM]} || true")  # kubelet may have been faster

    def start_again(self, process: str) -> None:
        if process == "kubelet-node1":
            self._run("systemctl start kubelet")
        else:
            self._run(f"mv /etc/kubernetes/{_STATIC_PODS[process]}.yaml {_MANIFESTS}/")

    def add_second(self) -> None:
        self._engine("start", self.second)
        ready = kubectl("wait", "--for=condition=Ready", f"node/{self.second}", "--timeout=1s")
        wait_until(180, f"the node {self.second}", lambda: succeeds(*ready))
        for node, zone in ((self.first, "zone-a"), (self.second, "zone-b")):
            _kubectl("label", "node", node, f"topology.kubernetes.io/zone={zone}", "--overwrite")
        _kubectl("label", "node", self.second, "cloud.google.com/gke-spot=true", "--overwrite")
        _kubectl("uncordon", self.second)

    def lose_second(self) -> None:
        self._engine("pause", self.second)

    def remove_second(self) -> None:
        """Its container is there still: a later `add_second` starts it, and it is a node again."""
        if self._engine("inspect", "--format={{.State.Paused}}", self.second).strip() == "true":
            self._engine("unpause", self.second)
        self._engine("kill", self.second)
        _kubectl("delete", "node", self.second, "--ignore-not-found")

    def import_image(self, archive: Path, *nodes: str) -> None:
        """For pods of the first node, or of those that are named."""
        names = f"--nodes={','.join(nodes or (self.first,))}"
        load = ["kind", "load", "image-archive", str(archive), f"--name={self.cluster}", names]
        subprocess.run(load, check=True, capture_output=True)

    def accounts_key(self) -> bytes:
        return self._engine("exec", self.first, "cat", "/etc/kubernetes/pki/sa.key").encode()

    def operator(self, version: str) -> Path:
        """The manifest of KubeRay's operator."""
        return self._adapted("kuberay", _OPERATOR.format(version), "/manager")

    def metrics_server(self) -> Path:
        module = (HERE / "tools" / "metrics-server" / "go.mod").read_text()
        version = next(
            fields[1]
            for line in module.splitlines()
            if (fields := line.replace("require", "").split())[:1] == [_METRICS_MODULE]
        )
        return self._adapted("metrics-server", _METRICS_SERVER.format(version))

    def prepare(self, kuberay: str, *, with_previous: bool) -> None:
        """The project's images, KubeRay and Google's kinds on it; pods keep off the second node."""
        _kubectl(
            "taint", "nodes", self.first, "node-role.kubernetes.io/control-plane-", check=False
        )
        _kubectl("label", "node", self.first, "cloud.google.com/gke-spot=true", "--overwrite")
        _kubectl(
            "drain", self.second, "--ignore-daemonsets", "--delete-emptydir-data", "--force",
            "--timeout=120s",
        )  # fmt: skip
        for archive in images.build_project():
            self.import_image(archive, self.first, self.second)
        if with_previous:
            previous.build()
        for path in (
            BIN / f"crds-{kuberay}",
            HERE / "manifests" / "google-kinds.yaml",
            self.operator(kuberay),
        ):
            _kubectl("apply", "--server-side", "--filename", path)
        _kubectl(
            "rollout", "status", "deployment/kuberay-operator", "--namespace=kuberay",
            "--timeout=300s",
        )  # fmt: skip
        RECORD.write_text(json.dumps(asdict(self)))

    def _adapted(self, name: str, image: str, program: str | None = None) -> Path:
        """A manifest of ours with an image of its project's, on the first node."""
        documents = list(yaml.safe_load_all((HERE / "manifests" / f"{name}.yaml").read_text()))
        for document in documents:
            if document["kind"] == "Deployment":
                pod = document["spec"]["template"]["spec"]
                pod["nodeSelector"] = {"kubernetes.io/hostname": self.first}
                (container,) = pod["containers"]
                container["image"] = image
                if program is not None:
                    container["command"][0] = program
        path = STATE / f"{name}.yaml"
        path.write_text(yaml.safe_dump_all(documents))
        return path

    def _run(self, script: str) -> None:
        """In the first node."""
        self._engine("exec", self.first, "sh", "-c", script)

    def _engine(self, *arguments: str) -> str:
        return subprocess.run(
            [self.engine, *arguments], check=True, capture_output=True, text=True
        ).stdout


def _kubectl(*arguments: object, check: bool = True) -> None:
    subprocess.run(kubectl(*arguments), check=check, capture_output=True)
