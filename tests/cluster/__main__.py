"""A real Kubernetes on this machine, with KubeRay and the project on it.

    python -m tests.cluster up [VERSION]   start it; VERSION is KubeRay's
    python -m tests.cluster test […]       start it, run the tests (pytest's arguments), end it
    python -m tests.cluster kubectl …      kubectl as cluster-admin
    python -m tests.cluster run …          any command inside the namespaces, with KUBECONFIG
    python -m tests.cluster restart NAME   kill a process and start it again: apiserver, proxy, …
    python -m tests.cluster down           end it, and all that runs in it

With STORECAST_CLUSTER_CONTEXT, a context of KUBECONFIG, `test`, `kubectl`, `run` use its cluster.
Where the machine lacks something, `up` and `test` say what, and end without an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.cluster import build, control_plane, given, images, namespaces, previous, seed
from tests.cluster.places import (
    CACHE,
    CONTEXT,
    DEFAULT_KUBERAY,
    HERE,
    KUBECONFIG,
    REPORT,
    ROOT,
    kuberay_versions,
)
from tests.cluster.processes import LOGS

LOGS_OF_FAILURE = CACHE / "log"
_UPGRADE = {HERE, HERE.relative_to(ROOT), Path("tests/cluster/test_upgrade.py")}
"""Arguments of pytest with which the tests of an upgrade are run."""


def up(kuberay: str, *, with_previous: bool = False) -> bool:
    """Start the cluster with the project's images and KubeRay. False if this machine cannot.

    `with_previous`: the images of an earlier version are built, too, for the tests of an upgrade.
    """
    obstacle = namespaces.obstacle()
    if obstacle is not None:
        say(f"skipped: {obstacle}")
        return False
    if namespaces.init() is not None:
        say("a cluster is up already; python -m tests.cluster down ends it")
        return True
    build.build()
    if kuberay not in kuberay_versions():
        say(f"KubeRay {kuberay} is not built; there are {', '.join(kuberay_versions())}")
        return False
    began = time.monotonic()
    archives = images.build_system(kuberay) + images.build_project()
    if with_previous:
        previous.build()
    seed.make()
    say(f"images and data: {time.monotonic() - began:.0f} s")
    namespaces.create()
    try:
        inside("up", kuberay, *map(str, archives))
    except subprocess.CalledProcessError:
        shutil.rmtree(LOGS_OF_FAILURE, ignore_errors=True)
        shutil.copytree(LOGS, LOGS_OF_FAILURE)
        namespaces.end()
        say(f"it did not come up; its logs are in {LOGS_OF_FAILURE}")
        raise
    say(f"KubeRay {kuberay} runs: {time.monotonic() - began:.0f} s")
    return True


def test(arguments: list[str]) -> int:
    """pytest inside the namespaces, or on a given cluster; ends the cluster that it started."""
    kuberay = os.environ.get("KUBERAY", DEFAULT_KUBERAY)
    was_up = namespaces.init() is not None
    asks_for_upgrade = any(Path(name.partition("::")[0]) in _UPGRADE for name in arguments)
    if CONTEXT:
        given.prepare(kuberay, with_previous=asks_for_upgrade)
    elif not up(kuberay, with_previous=asks_for_upgrade):
        return 0
    try:
        code = run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", *arguments])
        if REPORT.exists():
            say(REPORT.read_text())
        return code
    finally:
        if not was_up and not CONTEXT:
            namespaces.end()


def run(command: list[str]) -> int:
    enter = given.entered if CONTEXT else namespaces.entered
    environment = {**os.environ, "KUBECONFIG": str(KUBECONFIG)}
    return subprocess.run(enter(*command), check=False, cwd=ROOT, env=environment).returncode


def inside(*command: str) -> None:
    subprocess.run(
        namespaces.entered(sys.executable, "-m", "tests.cluster.inside", *command),
        check=True,
        cwd=ROOT,
    )


def say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


def main(arguments: list[str]) -> int:
    code = 0
    match arguments:
        case ["up" | "restart" | "down", *_] if CONTEXT:
            say(f"{arguments[0]} is for a cluster of our own, and {CONTEXT} is given")
            code = 2
        case ["up"] | ["up", _]:
            if up(*(arguments[1:] or [DEFAULT_KUBERAY])):
                inside("project")
        case ["test", *given]:
            names_tests = any(Path(name.partition("::")[0]).exists() for name in given)
            code = test(given if names_tests else [*given, str(HERE)])
        case ["kubectl", *given]:
            code = run(control_plane.kubectl(*given))
        case ["run", *given]:
            code = run(given)
        case ["restart", name]:
            inside("restart", name)
        case ["down"]:
            namespaces.end()
        case _:
            say(__doc__ or "")
            code = 2
    return code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except given.GivenError as error:
        sys.exit(str(error))
