"""The commands inside of the namespaces: `python -m tests.cluster.inside COMMAND`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.cluster import control_plane, nodes, processes, project
from tests.cluster.places import BIN, HERE, NAMESPACE, STATE

_KUBERAY = STATE / "kuberay"


def start_cluster(kuberay: str, archives: list[str]) -> None:
    """The control plane, a node with these images, DNS, KubeRay's operator, and the firewall."""
    _KUBERAY.write_text(kuberay)
    nodes.ARCHIVES.write_text(json.dumps(archives))
    began = time.monotonic()
    control_plane.up()
    for path in (BIN / f"crds-{kuberay}", HERE / "manifests" / "google-kinds.yaml"):
        kubectl("apply", "--server-side", "--filename", path)
    say(f"the API server answers: {time.monotonic() - began:.0f} s")
    nodes.start_containerd(nodes.FIRST)
    nodes.import_images(nodes.FIRST)
    say(f"images are imported: {time.monotonic() - began:.0f} s")
    nodes.start_kubelet(nodes.FIRST)
    nodes.start_proxy()
    for name in ("dns.yaml", "kuberay.yaml"):
        kubectl("apply", "--server-side", "--filename", HERE / "manifests" / name)
    wait_for_workload("kube-system", "deploy/coredns")
    wait_for_workload("kuberay", "deploy/kuberay-operator")
    _check_operator(kuberay)
    nodes.enforce_policies()


def _check_operator(version: str) -> None:
    """Raise an error unless the operator that runs is the program of that version."""
    expected = (BIN / f"kuberay-{version}").stat().st_size
    running = []
    for program in Path("/proc").glob("[0-9]*/exe"):
        with suppress(OSError):  # a process that has just ended
            if program.readlink() == Path("/kuberay"):
                running.append(program.stat().st_size)
    if running != [expected]:
        raise RuntimeError(f"the operator that runs is not KubeRay {version}: {running} bytes")


def wait_for_workload(namespace: str, name: str, seconds: float = 180) -> None:
    ready = control_plane.kubectl(
        "wait", f"--namespace={namespace}", "--for=condition=Available", "--timeout=1s", name
    )
    processes.wait_until(seconds, name, lambda: processes.succeeds(*ready))


def put_project() -> None:
    """The project on the cluster, as setup puts it there, and a bucket for it."""
    project.start_storage()
    applied = project.apply(project.write_overlay(overlay()))
    sys.stderr.write(applied.stdout + applied.stderr)
    if applied.returncode:
        sys.exit(applied.returncode)
    say(f"""The project is in namespace {NAMESPACE}, its bucket is gs://shop. To look at it:
  python -m tests.cluster kubectl -n {NAMESPACE} get pods
  python -m tests.cluster kubectl -n {NAMESPACE} create job --from=cronjob/storecast-nightly night
  python -m tests.cluster kubectl -n {NAMESPACE} logs --follow job/night
  python -m tests.cluster down""")


def overlay() -> str:
    """The overlay that setup would choose for the cluster's KubeRay."""
    return "prod" if kuberay().startswith("1.5.") else "prod-kuberay-1.6"


def kuberay() -> str:
    """The version of the cluster's KubeRay."""
    return _KUBERAY.read_text()


def kubectl(*arguments: object) -> None:
    subprocess.run(control_plane.kubectl(*arguments), check=True, stdout=subprocess.DEVNULL)


def say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["up", version, *archives]:
            start_cluster(version, archives)
        case ["project"]:
            put_project()
        case ["restart", process_name]:
            processes.restart(process_name)
        case _:
            sys.exit(f"{sys.argv[1:]}: use python -m tests.cluster")
