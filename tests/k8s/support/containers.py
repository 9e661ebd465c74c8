"""podman, with containers that are as confined as in the cluster: read-only and not root.

`make image` builds the images once and leaves their dependencies in podman's cache. The tests build
them again from the present sources, so that no test uses a stale image.
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

from tests.k8s.support.manifests import ROOT

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
    """Build the image `target` of these sources; returns its name. Skips if it was never built.

    `folder` and `patch` are used to lower podman's limits on a machine that may not raise them.
    """
    name = f"localhost/storecast:{target}"
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed, and it is what builds and starts the images")
    if podman("image", "exists", name, check=False).returncode:
        pytest.skip(f"there is no image {name} in the cache; `make image` builds it")
    _let_podman_start(name, folder, patch)
    command = ("build", "--network=host", "--target", target, "--tag", name, ROOT)
    built = podman(*command, check=False)
    output = (built.stdout + built.stderr)[-2000:]
    if built.returncode and _UNREACHED.search(output):
        pytest.skip(f"dependencies have changed, and builds here do not reach the index: {output}")
    assert built.returncode == 0, output
    return name


def _let_podman_start(name: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Lower the limits that podman sets, if this machine does not grant them."""
    if run(name, "true", check=False).returncode == 0:
        return
    kinds = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    hard = {name: min(resource.getrlimit(kind)[1], 2**15) for name, kind in kinds.items()}
    limits = [f"{name}={limit}:{limit}" for name, limit in hard.items() if limit > 0]
    settings = folder / "containers.conf"
    settings.write_text(f"[containers]\ndefault_ulimits = {json.dumps(limits)}\n")
    patch.setenv("CONTAINERS_CONF", str(settings))
    started = run(name, "true", check=False)
    if started.returncode:
        pytest.skip(f"podman starts no containers here: {started.stderr.strip()[-300:]}")


def inspected(name: str) -> dict[str, Any]:
    (description,) = json.loads(podman("image", "inspect", name).stdout)
    return dict(description)


@contextmanager
def running(name: str, *command: str, options: tuple[str, ...] = ()) -> Iterator[str]:
    """The id of a container that runs in the background until the block ends."""
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
    diagnosis: Callable[[], str],
    *,
    headers: dict[str, str] | None = None,
    seconds: float = 120,
) -> httpx.Response:
    """The first response with status 200; if none comes, the test fails with `diagnosis`."""
    end = time.monotonic() + seconds
    while True:
        try:
            response = httpx.get(url, headers=headers, timeout=5)
            if response.status_code == httpx.codes.OK:
                return response
        except httpx.TransportError:
            pass
        assert time.monotonic() < end, f"{url} does not answer: {diagnosis()}"
        time.sleep(0.3)
