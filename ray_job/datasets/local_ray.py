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
_ROOM = 2**20
"""Bytes. A Ray that starts and runs a task writes 0.1 MB besides its memory, most of it logs."""
_ADDRESS = "address"
_LOG = "start.log"
_ALIVE = "alive"
"""A pipe that only the command has open for writing, so that its readers see how long it lives."""
_IDLE = f'read -r _ < "$0/{_ALIVE}"; rm -rf "$0"; kill -KILL 0'
"""A shell's command that does nothing while the command lives, and then ends what is left of Ray.

The child does so itself, unless it was killed before. `$0` is the folder.
"""


class LocalRay:
    """Begins to start with the object. `address` waits for it, `end` ends all of its processes.

    They end with this process, too, however it and the child end. What a killed one leaves is its
    folder at most, which clean-up deletes.
    """

    def __init__(self) -> None:
        self._folder = _base() / f"{WORKING_FOLDER}{os.getpid()}"
        self._process: subprocess.Popen[bytes] | None = None
        self._alive: int | None = None
        self._error: OSError | None = None
        self._shortage = _too_small_files(_ROOM) or _full_disk(self._folder.parent)
        if self._shortage is not None:
            return  # Ray would find out after half a minute, and say something else
        try:
            shutil.rmtree(self._folder, ignore_errors=True)  # of an earlier process of this id
            self._folder.mkdir(mode=0o700)
            os.mkfifo(self._folder / _ALIVE)
            self._alive = os.open(self._folder / _ALIVE, os.O_RDWR)
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
            # Also where the child has ended by itself, or was killed: the others may be left.
            _end_session(self._process.pid)
            self._process.communicate()
            self._process = None
        if self._alive is not None:
            os.close(self._alive)
            self._alive = None
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
        if shortage := self._shortage or _full_disk(self._folder.parent):
            return shortage
        if self._process is None:
            return str(self._error or "it was ended")
        code = self._process.returncode
        if code is None:
            return f"it is not there after {_START_SECONDS:.0f} s"
        if code < 0:
            return f"its process was ended by {signal.strsignal(-code)}; is there memory enough?"
        lines = Path(self._folder, _LOG).read_text(errors="replace").strip().splitlines()
        text = lines[-1].rstrip(".") if lines else f"exit code {code}"
        if "AF_UNIX path length" in text:
            text += "; set TMPDIR to a shorter path"
        return text.removeprefix(f"{_NoRoomError.__name__}: ")


class _NoRoomError(Exception):
    """Of the child, for its log."""


def _too_small_files(size: int) -> str | None:
    """A sentence where this process may not write files of so many bytes."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit == resource.RLIM_INFINITY or limit >= size:
        return None
    return (
        f"no file of this process may have more than {limit:,} bytes (`ulimit -f`), and Ray's"
        " memory is one large file: raise the limit"
    )


def _full_disk(folder: Path) -> str | None:
    """A sentence where Ray cannot write its files into the folder. Ray says other things."""
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


def _end_session(leader: int) -> None:
    """Kill all processes of the session that this process began, but not the calling one.

    The group has all but Ray's workers, which are groups of their own. They notice the end of Ray
    some seconds later, and not at all while they are stopped.
    """
    with suppress(ProcessLookupError, PermissionError):
        if leader != os.getpid():
            os.killpg(leader, signal.SIGKILL)
    killed = {os.getpid()}
    while members := _members(leader) - killed:  # once more: of those that one of them began
        for member in members:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(member, signal.SIGKILL)
        killed |= members


def _members(session: int) -> set[int]:
    """The processes of a session, where the system lists processes."""
    members = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            if os.getsid(int(folder.name)) == session:
                members.add(int(folder.name))
    return members


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

        def start_raylet(
            self,
            plasma_directory: str,
            fallback_directory: str,
            object_store_memory: int,
            *more: Any,
            **options: Any,
        ) -> None:
            # Ray would wait for half a minute.
            if shortage := _too_small_files(object_store_memory):
                raise _NoRoomError(shortage)
            for name in (
                raylet.METRICS_AGENT_PORT_NAME,
                raylet.METRICS_EXPORT_PORT_NAME,
                raylet.DASHBOARD_AGENT_LISTEN_PORT_NAME,
                raylet.RUNTIME_ENV_AGENT_PORT_NAME,
            ):
                # What an agent writes that does not serve.
                raylet.persist_port(self._session_dir, self._node_id, name, -1)
            super().start_raylet(
                plasma_directory, fallback_directory, object_store_memory, *more, **options
            )

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
    _end_session(os.getpid())
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
