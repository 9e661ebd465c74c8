"""The namespaces of a cluster: network, mounts and processes. `end` removes all that is in them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.cluster.build import missing
from tests.cluster.places import INIT, STATE

_PROGRAMS = {
    "go": "https://go.dev/dl/",
    "podman": "apt-get install podman",
    "catatonit": "apt-get install catatonit",
    "unshare": "apt-get install util-linux",
    "nsenter": "apt-get install util-linux",
    "containerd": "apt-get install containerd",
    "runc": "apt-get install runc",
    "ip": "apt-get install iproute2",
    "iptables": "apt-get install iptables",
    "ipset": "apt-get install ipset",
    "conntrack": "apt-get install conntrack",
    "openssl": "apt-get install openssl",
}
CNI = Path("/usr/lib/cni")


def obstacle() -> str | None:
    """Why no cluster can be started here, in one sentence; None if one can."""
    if os.geteuid() != 0:
        return "a cluster needs root: its namespaces, its containers and its firewall do"
    for program, source in _PROGRAMS.items():
        if program == "go" and not missing():
            continue
        if shutil.which(program) is None:
            return f"{program} is not installed ({source})"
    if not (CNI / "bridge").exists():
        return f"{CNI}/bridge is missing (apt-get install containernetworking-plugins)"
    attempt = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "true"],
        check=False,
        capture_output=True,
        text=True,
    )
    if attempt.returncode:
        return f"this machine makes no namespaces: {attempt.stderr.strip()}"
    return None


def init() -> int | None:
    """The process id of the namespaces' first process; None if there are none."""
    if not INIT.exists():
        return None
    process = int(INIT.read_text())
    return process if Path(f"/proc/{process}").exists() else None


def create() -> None:
    """Make the namespaces. What runs in them ends with their first process."""
    STATE.mkdir(parents=True, exist_ok=True)
    outer = subprocess.Popen(
        [
            "unshare", "--net", "--mount", "--propagation=private", "--pid", "--fork",
            "--mount-proc", "--kill-child=KILL", "catatonit", "-P",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
    for _ in range(100):
        if child := children.read_text().split():
            INIT.write_text(child[0])
            return
        time.sleep(0.05)
    raise RuntimeError("unshare has started nothing")


def entered(*command: str) -> list[str]:
    """The command, run inside, in the same working directory."""
    process = init()
    if process is None:
        raise RuntimeError("no cluster is up: make cluster")
    return [
        "nsenter", f"--target={process}", "--mount", "--net", "--pid", f"--wdns={Path.cwd()}",
        "--", *command,
    ]  # fmt: skip


def end() -> None:
    """End everything inside, and remove its state. Images and programs stay."""
    process = init()
    if process is not None:
        os.kill(process, signal.SIGKILL)
        for _ in range(100):
            if not Path(f"/proc/{process}").exists():
                break
            time.sleep(0.05)
    shutil.rmtree(STATE, ignore_errors=True)
