"""Nodes: containerd, kubelet, proxy, and a firewall for network policies. Inside the namespaces.

All nodes share one network: their pods are on one bridge, each node with a range of addresses.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.control_plane import kubectl
from tests.cluster.namespaces import CNI
from tests.cluster.places import API_SERVER, BIN, DNS, IMAGES, KUBECONFIG, SERVICES, STATE
from tests.cluster.processes import AGAIN, start, stop, succeeds, wait_until


@dataclass(frozen=True)
class Node:
    """Its pods have the addresses 10.244.0.`first` to `last`; `offset` shifts its ports."""

    name: str
    address: str
    first: int
    last: int
    offset: int

    @property
    def socket(self) -> Path:
        return STATE / self.name / "containerd.sock"

    def ctr(self, *arguments: object) -> list[str]:
        return ["ctr", f"--address={self.socket}", "--namespace=k8s.io", *map(str, arguments)]


FIRST = Node("node1", API_SERVER, 10, 120, 0)
SECOND = Node("node2", "10.244.0.3", 130, 240, 1000)
_SECOND_RANGE = "10.244.0.128/25"
"""All addresses of the second node's pods, and no others."""
ARCHIVES = STATE / "archives.json"
"""The images of each node, as archives of podman's."""


def start_containerd(node: Node) -> None:
    home = STATE / node.name
    for folder in (home / "cni", home / "kubelet", IMAGES / node.name):
        folder.mkdir(parents=True, exist_ok=True)
    addresses = {
        "subnet": "10.244.0.0/24",
        "rangeStart": f"10.244.0.{node.first}",
        "rangeEnd": f"10.244.0.{node.last}",
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "isDefaultGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[addresses]],
            "dataDir": str(home / "addresses"),
        },
    }
    plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]
    network = {"cniVersion": "0.4.0", "name": f"pods-{node.name}", "plugins": plugins}
    (home / "cni" / "10-pods.conflist").write_text(json.dumps(network))
    (home / "containerd.toml").write_text(f"""version = 2
root = "{IMAGES / node.name}"
state = "{home / "run"}"
[grpc]
  address = "{node.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI}"
    conf_dir = "{home / "cni"}"
""")
    _remove_cgroups()
    _weigh_pods()
    start(f"containerd-{node.name}", ["containerd", f"--config={home / 'containerd.toml'}"])
    wait_until(60, "containerd", lambda: succeeds(*node.ctr("version")))
    # Containers of an earlier cluster, which ended with its processes.
    known = subprocess.run(
        node.ctr("containers", "list", "--quiet"), check=True, capture_output=True, text=True
    ).stdout.split()
    if known:
        remove = node.ctr("containers", "delete", *known)
        subprocess.run(remove, check=False, capture_output=True)


def _remove_cgroups() -> None:
    """Remove the control groups of pods that have ended: kubelet asks for each of them in turn."""
    for group in Path("/sys/fs/cgroup").glob("*/k8s.io/*"):
        if group.is_dir():
            with suppress(OSError):  # a group of processes
                group.rmdir()


def _weigh_pods() -> None:
    """Let the pods count as ten processes: together they are one group, and would count as one."""
    group = Path("/sys/fs/cgroup/cpu")
    if (group / "cpu.shares").exists():
        (group / "k8s.io").mkdir(exist_ok=True)
        (group / "k8s.io" / "cpu.shares").write_text("10240")


def start_kubelet(node: Node) -> None:
    home = STATE / node.name
    settings = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "port": 10250 + node.offset,
        "healthzPort": 10248 + node.offset,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "featureGates": {"KubeletInUserNamespace": True},
        "containerRuntimeEndpoint": f"unix://{node.socket}",
        "clusterDNS": [DNS],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "evictionHard": {
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "memory.available": "100Mi",
        },
        "nodeStatusUpdateFrequency": "5s",
        # No registry would give an image back that was collected from a disk that others fill.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }
    (home / "kubelet.json").write_text(json.dumps(settings))
    # Where the load of containers is read. On one node only: each would look for those of both.
    measuring = [f"--containerd={node.socket}"] if node == FIRST else []
    start(
        f"kubelet-{node.name}",
        [
            *AGAIN,  # this version can crash when a pod goes while its resources are looked at
            BIN / "kubelet",
            f"--config={home / 'kubelet.json'}",
            f"--kubeconfig={STATE / f'{node.name}.conf'}",
            f"--hostname-override={node.name}",
            f"--node-ip={node.address}",
            f"--root-dir={home / 'kubelet'}",
            f"--cert-dir={home / 'kubelet' / 'pki'}",
            *measuring,
        ],
    )
    ready = kubectl("wait", "--for=condition=Ready", f"node/{node.name}", "--timeout=1s")
    wait_until(180, f"the node {node.name}", lambda: succeeds(*ready))
    # The pools of the project's workers: on GKE these nodes are Spot.
    subprocess.run(
        kubectl("label", "node", node.name, "cloud.google.com/gke-spot=true", "--overwrite"),
        check=True,
        capture_output=True,
    )


def start_proxy() -> None:
    """Services, for all nodes: they share one network."""
    settings = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "hostnameOverride": FIRST.name,
        "clusterCIDR": "10.244.0.0/24",
        "clientConnection": {"kubeconfig": str(KUBECONFIG)},
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }
    (STATE / "proxy.json").write_text(json.dumps(settings))
    start("proxy", [BIN / "kube-proxy", f"--config={STATE / 'proxy.json'}"])


def enforce_policies() -> None:
    """kube-router's firewall alone. Packets between pods of the bridge pass through it, too."""
    subprocess.run(
        ["sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1"], check=True, capture_output=True
    )
    start(
        "policies",
        [
            BIN / "kube-router",
            "--run-router=false",
            "--run-service-proxy=false",
            "--run-firewall=true",
            f"--kubeconfig={KUBECONFIG}",
            f"--hostname-override={FIRST.name}",
            f"--service-cluster-ip-range={SERVICES}",
            "--health-port=0",
        ],
        NODE_NAME=FIRST.name,
    )

    def filters() -> bool:
        rules = subprocess.run(["iptables", "-S"], check=False, capture_output=True, text=True)
        return "KUBE-ROUTER-FORWARD" in rules.stdout

    wait_until(60, "the firewall", filters)


def import_images(node: Node) -> None:
    for archive in json.loads(ARCHIVES.read_text()):
        import_image(node, Path(archive))


def import_image(node: Node, archive: Path) -> None:
    """An image from an archive of podman's, unless it is the one that the node has by that name."""
    image = archive.stem.rpartition("-")[0]
    mark = IMAGES / node.name / f"{image}.imported"
    stamp = f"{archive.name} {archive.stat().st_mtime_ns}"
    if mark.exists() and mark.read_text() == stamp:
        return
    subprocess.run(node.ctr("images", "import", archive), check=True, capture_output=True)
    mark.write_text(stamp)


def add_second() -> None:
    """Start the second node, in a zone of its own. The firewall filters nothing of its pods."""
    start_containerd(SECOND)
    import_images(SECOND)
    start_kubelet(SECOND)
    for node, zone in ((FIRST, "zone-a"), (SECOND, "zone-b")):
        label = kubectl(
            "label", "node", node.name, f"topology.kubernetes.io/zone={zone}", "--overwrite"
        )
        subprocess.run(label, check=True, capture_output=True)


def lose_second() -> None:
    """Let the second node go away as a machine does: nobody says anything, no packet passes."""
    stop(f"kubelet-{SECOND.name}")
    _drop_packets("--insert")


def remove_second() -> None:
    """End what is left of the second node, and forget it."""
    stop(f"kubelet-{SECOND.name}")
    forget = kubectl("delete", "node", SECOND.name, "--ignore-not-found")
    subprocess.run(forget, check=True, capture_output=True)
    running = subprocess.run(
        SECOND.ctr("tasks", "list", "--quiet"), check=True, capture_output=True, text=True
    )
    for container in running.stdout.split():
        kill = SECOND.ctr("tasks", "kill", "--all", "--signal=SIGKILL", container)
        subprocess.run(kill, check=False, capture_output=True)
    stop(f"containerd-{SECOND.name}")
    shutil.rmtree(STATE / SECOND.name, ignore_errors=True)
    _drop_packets("--delete")


def _drop_packets(how: str) -> None:
    """Insert or delete the rules that drop every packet of the second node's pods."""
    for chain, side in (
        ("FORWARD", "--source"),
        ("FORWARD", "--destination"),
        ("INPUT", "--source"),
        ("OUTPUT", "--destination"),
    ):
        rule = ["iptables", "--wait", how, chain, side, _SECOND_RANGE, "--jump=DROP"]
        subprocess.run(rule, check=False, capture_output=True)
