"""etcd, the API server, the controllers and the scheduler. Runs inside the namespaces."""

from __future__ import annotations

import json
import secrets
import subprocess

from tests.cluster.places import API_SERVER, BIN, KUBECONFIG, KUBECTL, SERVICES, STATE, storage
from tests.cluster.processes import start, succeeds, wait_until

_PKI = STATE / "pki"
_TOKENS = STATE / "tokens.csv"
_USERS = {
    "admin": ("admin", "system:masters"),
    "controllers": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "node1": ("system:node:node1", "system:nodes"),
    "node2": ("system:node:node2", "system:nodes"),
}
"""The cluster's own users, by the name of their kubeconfig: user name and groups."""
ETCD = "http://127.0.0.1:2379"


def up() -> None:
    """Start the control plane; some seconds."""
    _make_network()
    _make_credentials()
    start(
        "etcd",
        [
            BIN / "etcd",
            f"--data-dir={STATE / 'etcd'}",
            f"--listen-client-urls={ETCD}",
            f"--advertise-client-urls={ETCD}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--log-level=warn",
            "--unsafe-no-fsync",
        ],
    )
    start(
        "apiserver",
        [
            BIN / "kube-apiserver",
            f"--etcd-servers={ETCD}",
            f"--cert-dir={_PKI}",
            "--secure-port=443",  # the project's policies let pods out to this port
            f"--bind-address={API_SERVER}",
            f"--advertise-address={API_SERVER}",
            f"--service-cluster-ip-range={SERVICES}",
            "--authorization-mode=Node,RBAC",
            f"--token-auth-file={_TOKENS}",
            "--allow-privileged",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={_PKI / 'accounts.pub'}",
            f"--service-account-signing-key-file={_PKI / 'accounts.key'}",
            "--enable-admission-plugins=NodeRestriction",
            "--kubelet-preferred-address-types=InternalIP",
            # metrics-server is asked through the API server.
            "--enable-aggregator-routing",
            f"--requestheader-client-ca-file={_PKI / 'front.crt'}",
            f"--proxy-client-cert-file={_PKI / 'front.crt'}",
            f"--proxy-client-key-file={_PKI / 'front.key'}",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        ],
    )
    wait_for_api_server()
    start(
        "controllers",
        [
            BIN / "kube-controller-manager",
            f"--kubeconfig={STATE / 'controllers.conf'}",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={_PKI / 'accounts.key'}",
            f"--root-ca-file={_PKI / 'apiserver.crt'}",
            "--leader-elect=false",
            "--node-monitor-grace-period=20s",  # a node that goes away is seen sooner
            "--horizontal-pod-autoscaler-sync-period=5s",
        ],
    )
    start(
        "scheduler",
        [
            BIN / "kube-scheduler",
            f"--kubeconfig={STATE / 'scheduler.conf'}",
            "--leader-elect=false",
        ],
    )


def wait_for_api_server() -> None:
    wait_until(120, "the API server", lambda: succeeds(*kubectl("get", "--raw=/readyz")))


def kubectl(*arguments: object) -> list[str]:
    """The command line of kubectl as cluster-admin: our own one, if it is built."""
    program = KUBECTL if KUBECTL.exists() else "kubectl"
    return [str(program), f"--kubeconfig={KUBECONFIG}", *map(str, arguments)]


def _make_network() -> None:
    addresses = [API_SERVER, storage()[0], "10.244.0.3"]
    for command in (
        ["mount", "--make-rshared", "/"],
        ["ip", "link", "set", "lo", "up"],
        # Else it has the least address of its ports, which changes when a pod goes. The others then
        # send to the old one until they ask again, after half a minute.
        ["ip", "link", "add", "cni0", "address", "0a:58:0a:f4:00:01", "type", "bridge"],
        *(["ip", "address", "add", f"{address}/24", "dev", "cni0"] for address in addresses),
        ["ip", "link", "set", "cni0", "up"],
        ["ip", "route", "add", "default", "via", API_SERVER, "dev", "cni0"],
        ["sysctl", "-qw", "net.ipv4.ip_forward=1"],
    ):
        subprocess.run(command, check=True, capture_output=True)


def _make_credentials() -> None:
    _PKI.mkdir(parents=True, exist_ok=True)
    for command in (
        ["openssl", "genrsa", "-out", _PKI / "accounts.key", "2048"],
        ["openssl", "rsa", "-in", _PKI / "accounts.key", "-pubout", "-out", _PKI / "accounts.pub"],
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=front",
            "-keyout", _PKI / "front.key", "-out", _PKI / "front.crt",
        ],
    ):  # fmt: skip
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
    lines = []
    for number, (name, (user, group)) in enumerate(_USERS.items()):
        token = secrets.token_hex(16)
        lines.append(f'{token},{user},{number},"{group}"\n')
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "here",
                    "cluster": {
                        "server": f"https://{API_SERVER}",
                        "certificate-authority": str(_PKI / "apiserver.crt"),
                    },
                }
            ],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": name}}],
            "current-context": "here",
        }
        (STATE / f"{name}.conf").write_text(json.dumps(document))
    _TOKENS.write_text("".join(lines))
