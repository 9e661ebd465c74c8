"""Servers of Cloud Storage's API that we did not write: where they are, and how they start.

fake-gcs-server is a Go module: `python -m tests.other_servers.servers` builds it, once, into the
cache of the user. Google's storage-testbench is a folder that STORECAST_TESTBENCH names: a checkout
of github.com/googleapis/storage-testbench whose `.venv` has its requirements.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FAKE_GCS_SERVER = "github.com/fsouza/fake-gcs-server@v1.56.1"
TESTBENCH = "STORECAST_TESTBENCH"
_START_SECONDS = 60


def built_binary() -> Path:
    """Where the build of fake-gcs-server lies, outside of the checkout."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "storecast-tests" / FAKE_GCS_SERVER.rpartition("@")[2] / "fake-gcs-server"


def build() -> Path:
    """Build fake-gcs-server with Go, unless it is there. Raises RuntimeError without Go."""
    binary = built_binary()
    if not binary.exists():
        go = shutil.which("go")
        if go is None:
            raise RuntimeError("go is not installed, and it is what builds fake-gcs-server")
        binary.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "GOBIN": str(binary.parent)}
        subprocess.run([go, "install", FAKE_GCS_SERVER], env=environment, check=True)
    return binary


@contextmanager
def fake_gcs_server(folder: Path) -> Iterator[str]:
    """The address of a running fake-gcs-server. Skips the test where it is not built."""
    binary = built_binary()
    if not binary.exists():
        pytest.skip("fake-gcs-server is not built: python -m tests.other_servers.servers")
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    options = ["-scheme=http", "-host=127.0.0.1", f"-port={port}", "-backend=memory"]
    options += [f"-public-host=127.0.0.1:{port}", f"-external-url={url}", "-log-level=error"]
    with _running([str(binary), *options], folder, url, folder):
        yield url


@contextmanager
def testbench(folder: Path) -> Iterator[str]:
    """The address of a running storage-testbench. Skips the test where no folder is named."""
    if TESTBENCH not in os.environ:
        pytest.skip(f"{TESTBENCH} names no checkout of googleapis/storage-testbench")
    checkout = Path(os.environ[TESTBENCH])
    own = checkout / ".venv" / "bin" / "python"
    python = str(own) if own.exists() else sys.executable
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    serve = ["-m", "gunicorn", f"--bind=127.0.0.1:{port}", "--threads=16", "testbench:run()"]
    with _running([python, *serve], checkout, url, folder):
        yield url


@contextmanager
def _running(command: list[str], directory: Path, url: str, folder: Path) -> Iterator[None]:
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log)
    try:
        _wait_until_it_answers(process, url, folder / "server.log")
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_answers(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/storage/v1/b?project=test", timeout=5).close()  # noqa: S310
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"{process.args!r} did not start:\n{log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


if __name__ == "__main__":
    sys.stdout.write(f"{build()}\n")
