"""podman, as the tests use it: what is read-only and not root in the cluster is so here."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import httpx
import pytest

from tests.k8s.manifests import ROOT

CONFINED = ("--read-only", "--tmpfs=/tmp:rw,mode=1777", "--network=host")
_LISTING = (
    "import hashlib, pathlib, {package}; root = pathlib.Path({package}.__file__).parent;"
    "print(*sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob('*.py')))"
)


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


def image(target: str, package: str) -> str:
    """The image of these sources. Skips where it is not there, or cannot be started."""
    name = f"localhost/storecast:{target}"
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed, and it is what builds and starts the images")
    if podman("image", "exists", name, check=False).returncode:
        pytest.skip(f"there is no image {name}: make image")
    started = run(name, "python", "-c", _LISTING.format(package=package), check=False)
    if started.returncode:
        pytest.skip(f"podman cannot start containers here: {started.stderr.strip()[-200:]}")
    here = sorted(sha256(path.read_bytes()).hexdigest() for path in (ROOT / package).rglob("*.py"))
    if started.stdout.split() != here:
        pytest.skip(f"{name} is not built from these sources: make image")
    return name


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
