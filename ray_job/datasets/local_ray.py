"""A Ray of one node on this machine: processes of their own, for as long as a run needs it.

`ray.init` starts Ray's processes inside of the driver, where they compete with the plan for
Python's lock, and its end waits a second for a monitor that a single node does not need. `ray
start` always opens the fixed port of Ray's client server. So a child process makes the node by the
class that both of them use. This module imports Ray in the child only.
"""

from __future__ import annotations

import importlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_job.bucket.errors import DISK_FULL, RayUnavailableError
from ray_job.data.requests import WORKING_FOLDER

if TYPE_CHECKING:
    from ray._private.node import Node

_START_SECONDS = 120.0
_POLL_SECONDS = 0.02
_ROOM = 16 * 2**20
"""Bytes that a Ray writes in any case."""
_ADDRESS = "address"
_LOG = "start.log"
_IDLE = "while kill -0 $PPID; do sleep 5; done"
"""A shell's command that does nothing for as long as the process lives that started the shell."""


class LocalRay:
    """Begins to start with the object. `address` waits for it, `end` ends all of its processes.

    They end with this process, too, however it ends. What a killed one leaves is its folder, which
    clean-up deletes.
    """

    def __init__(self) -> None:
        self._folder = _base() / f"{WORKING_FOLDER}{os.getpid()}"
        self._process: subprocess.Popen[bytes] | None = None
        self._error: OSError | None = None
        try:
            shutil.rmtree(self._folder, ignore_errors=True)  # of an earlier process of this id
            self._folder.mkdir(mode=0o700)
            self._process = self._begin()
        except OSError as error:
            self._error = error

    def address(self) -> str:
        """`host:port` of Ray, once it is there. Raises RayUnavailableError where it never is."""
        deadline = time.monotonic() + _START_SECONDS
        while self._process is not None and time.monotonic() < deadline:
            is_over = self._process.poll() is not None
            with suppress(FileNotFoundError):
                return Path(self._folder, _ADDRESS).read_text()
            if is_over:
                break
            time.sleep(_POLL_SECONDS)
        raise RayUnavailableError(f"a local Ray cannot be started: {self._reason()}")

    def end(self) -> None:
        """End the processes and remove their folder. Idempotent."""
        if self._process is not None:
            # Also where the child has ended by itself: a start that failed may leave processes.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _begin(self) -> subprocess.Popen[bytes]:
        with Path(self._folder, _LOG).open("wb") as log:
            return subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", __name__, str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": _import_path()},
                start_new_session=True,
            )

    def _reason(self) -> str:
        """What went wrong: no room for files, else the last line that Ray wrote."""
        if (shortage := _shortage(self._folder.parent)) is not None:
            return shortage
        if self._process is None:
            return str(self._error or "it was ended")
        if self._process.returncode is None:
            return f"it is not there after {_START_SECONDS:.0f} s"
        lines = Path(self._folder, _LOG).read_text(errors="replace").strip().splitlines()
        text = lines[-1].rstrip(".") if lines else f"exit code {self._process.returncode}"
        if "AF_UNIX path length" in text:
            text += "; set TMPDIR to a shorter path"
        return text


def _shortage(folder: Path) -> str | None:
    """What keeps Ray from writing its files, None where nothing does. Ray says other things."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if limit != resource.RLIM_INFINITY and limit < memory:
        return (
            f"no file of this process may have more than {limit:,} bytes (`ulimit -f`), and Ray's"
            " memory is one large file: raise the limit"
        )
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_ROOM))
    except OSError as error:
        if error.errno in DISK_FULL:
            return (
                f"the disk of {folder} is full ({error.strerror}): free some space, or set TMPDIR"
                " to another disk"
            )
    return None


def _import_path() -> str:
    """Where the child finds this package, which need not be installed."""
    ours = str(Path(__file__).parents[2])
    return os.pathsep.join(filter(None, (ours, os.environ.get("PYTHONPATH"))))


def _base() -> Path:
    """The folder that Ray makes its own in. Paths of sockets are short, above all on macOS."""
    folder = os.environ.get("RAY_TMPDIR")
    return Path(folder or ("/tmp" if sys.platform == "darwin" else tempfile.gettempdir()))  # noqa: S108


def _serve(folder: Path) -> None:
    """Start Ray's processes and write the address; end them all when standard input ends."""
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    node = _start_node(folder)
    unnamed = folder / f"{_ADDRESS}.tmp"
    unnamed.write_text(node.gcs_address)
    unnamed.rename(folder / _ADDRESS)
    threading.Event().wait()


def _start_node(folder: Path) -> Node:
    """A head node without what only a cluster has a use for.

    That is its monitors, its API server, and the two agents of a node: one serves the dashboard and
    metrics, the other installs the environments that tasks ask for, and ours ask for none. They are
    Python processes, and Ray waits for them. Ray has no public way to leave them out, and its
    version is pinned.
    """
    # The parts of Ray that start a node are imported in the child only.
    from ray._private import services, utils  # noqa: PLC0415
    from ray._private.node import Node  # noqa: PLC0415
    from ray._private.parameter import RayParams  # noqa: PLC0415

    raylet: Any = importlib.import_module("ray._raylet")  # compiled, without types of its own

    class SingleNode(Node):
        def start_api_server(self, **_options: Any) -> None:
            self._webui_url = None

        def start_raylet(self, *arguments: Any, **options: Any) -> None:
            for name in (
                raylet.METRICS_AGENT_PORT_NAME,
                raylet.METRICS_EXPORT_PORT_NAME,
                raylet.DASHBOARD_AGENT_LISTEN_PORT_NAME,
                raylet.RUNTIME_ENV_AGENT_PORT_NAME,
            ):
                # What an agent writes that does not serve.
                raylet.persist_port(self._session_dir, self._node_id, name, -1)
            super().start_raylet(*arguments, **options)

    start_process = services.start_ray_process
    idle = subprocess.list2cmdline(["sh", "-c", _IDLE, str(folder)])

    def start_without_agents(command: list[str], *arguments: Any, **options: Any) -> Any:
        """Ray's node ends if an agent does, so that something must run in its place."""
        names = ("--dashboard_agent_command=", "--runtime_env_agent_command=")
        replaced = [
            f"{word.partition('=')[0]}={idle}" if word.startswith(names) else word
            for word in command
        ]
        return start_process(replaced, *arguments, **options)

    services.start_ray_process = start_without_agents
    # Else Ray imports all that the agents do, to find out which of them it can offer.
    utils.get_dashboard_dependency_error = lambda: None
    parameters = RayParams(
        temp_dir=str(folder),
        gcs_server_port=0,
        include_dashboard=False,
        include_log_monitor=False,  # type: ignore[arg-type]
        no_monitor=True,
    )
    return SingleNode(parameters, head=True, shutdown_at_exit=False, spawn_reaper=False)


def _end_with_parent(folder: Path) -> None:
    # Not by sys.stdin, whose lock would make the end of a failed start fail in another way.
    while os.read(0, 1):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
