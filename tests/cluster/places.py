"""Where the cluster's programs and its state lie, outside of the checkout, and its addresses."""

from __future__ import annotations

import os
from pathlib import Path

CONTEXT = os.environ.get("STORECAST_CLUSTER_CONTEXT", "")
"""The context of KUBECONFIG with a cluster that is given; empty: one of our own is started."""
ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "storecast-cluster"
BIN = CACHE / "bin"
STATE = CACHE / "state"
"""Written by a cluster that runs, and removed with it."""
IMAGES = CACHE / "images"
"""containerd's images, which outlive a cluster."""
INIT = STATE / "init"
"""The file with the process id of the namespaces' first process, as it is outside of them."""
REPORT = CACHE / "report.txt"
"""What the tests of the last run have seen."""
KUBECONFIG = STATE / "admin.conf"
KUBECTL = BIN / "kubectl"

API_SERVER = "10.244.0.1"
"""Of our own cluster."""


def storage() -> tuple[str, int]:
    """Where the fake Cloud Storage listens. The policies let pods out to port 443 only."""
    host, _, port = os.environ.get("STORECAST_CLUSTER_STORAGE", "10.244.0.2:443").rpartition(":")
    return host, int(port)


SERVICES = "10.96.0.0/24"
DNS = "10.96.0.10"
NAMESPACE = "storecast"
BUCKET = "shop"
DEFAULT_KUBERAY = "1.6.2"


def kuberay_versions() -> list[str]:
    """The versions of KubeRay's operator that are built, also those that somebody laid there."""
    return sorted(path.name.removeprefix("kuberay-") for path in BIN.glob("kuberay-[0-9]*"))
