"""podman, as the tests use it: what is read-only and not root in the cluster is so here.

Whoever has made the images once (`make image`) has their dependencies in podman's cache, and the
tests make them again from the sources that are there: no test looks at a stale image.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.k8s.manifests import ROOT

CONFINED = ("--read-only", "--tmpfs=/tmp:rw,mode=1777", "--network=host")

_UNREACHED = re.compile("error sending request|failure in name resolution|Could not resolve")


def podman(
    *arguments: object, check: bool = True, timeout: float = 1100
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["podman", *map(str, arguments)],
        check=check,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def run(
    image: str, *command: str, options: tuple[str, ...] = (), check: bool = True
) -> subprocess.CompletedProcess[str]:
    return podman("run", "--rm", *CONFINED, *options, image, *command, check=check)


def image(target: str, folder: Path, patch: pytest.MonkeyPatch) -> str:
    """The image of these sources, made in podman's cache. Skips where it was never made.

    `folder` and `patch` take settings of podman for a machine that may not raise its limits.
    """
    name = f"localhost/storecast:{target}"
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed, and it is what builds and starts the images")
    if podman("image", "exists", name, check=False).returncode:
        pytest.skip(f"there is no image {name} to begin from: make image")
    _let_podman_start(name, folder, patch)
    command = ("build", "--network=host", "--target", target, "--tag", name, ROOT)
    built = podman(*command, check=False)
    said = (built.stdout + built.stderr)[-2000:]
    if built.returncode and _UNREACHED.search(said):
        pytest.skip(f"dependencies have changed, and builds here do not reach the index: {said}")
    assert built.returncode == 0, said
    return name


def _let_podman_start(name: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """podman asks for higher limits than some machines grant; then it asks for lower ones."""
    first = run(name, "true", check=False)
    if first.returncode == 0:
        return
    kinds = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    hard = {name: min(resource.getrlimit(kind)[1], 2**15) for name, kind in kinds.items()}
    limits = [f"{name}={limit}:{limit}" for name, limit in hard.items() if limit > 0]
    settings = folder / "containers.conf"
    settings.write_text(f"[containers]\ndefault_ulimits = {json.dumps(limits)}\n")
    patch.setenv("CONTAINERS_CONF", str(settings))
    second = run(name, "true", check=False)
    if second.returncode:
        pytest.skip(f"podman starts no containers here: {second.stderr.strip()[-300:]}")


def inspected(name: str) -> dict[str, Any]:
    (found,) = json.loads(podman("image", "inspect", name).stdout)
    return dict(found)


@contextmanager
def running(name: str, *command: str, options: tuple[str, ...] = ()) -> Iterator[str]:
    """A container in the background, by its id; it is stopped and removed at the end."""
    started = podman("run", "--detach", *CONFINED, *options, name, *command)
    container = started.stdout.strip()
    try:
        yield container
    finally:
        podman("rm", "--force", "--time=10", container, check=False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(
    url: str,
    tell: Callable[[], str],
    *,
    headers: dict[str, str] | None = None,
    seconds: float = 120,
) -> httpx.Response:
    """The first answer 200; `tell` says what there is to say when none comes."""
    end = time.monotonic() + seconds
    while True:
        try:
            answer = httpx.get(url, headers=headers, timeout=5)
            if answer.status_code == httpx.codes.OK:
                return answer
        except httpx.TransportError:
            pass
        assert time.monotonic() < end, f"{url} does not answer: {tell()}"
        time.sleep(0.3)
