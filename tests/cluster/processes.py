"""Processes inside the namespaces: each has a log, and a command that can be given again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from tests.cluster.places import STATE

LOGS = STATE / "log"


class NotReadyError(Exception):
    """Something did not come up in time."""


AGAIN = ("sh", "-c", 'while :; do "$@"; sleep 1; done', "again")
"""Before a command: it is started again whenever it ends, as systemd does."""


def start(name: str, command: Sequence[object], **environment: str) -> None:
    """Start a process that outlives this one. Its output is appended to `log/<name>`."""
    LOGS.mkdir(parents=True, exist_ok=True)
    command_line = [str(word) for word in command]
    _record(name).write_text(json.dumps([command_line, environment]))
    with (LOGS / name).open("ab") as log:
        process = subprocess.Popen(
            command_line,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _pid_file(name).write_text(str(process.pid))


def stop(name: str, how: signal.Signals = signal.SIGKILL) -> None:
    """End a process with its group, and wait until it is gone. Does nothing if it does not run."""
    if not _pid_file(name).exists():
        return
    process = int(_pid_file(name).read_text())
    try:
        os.killpg(process, how)
    except ProcessLookupError:
        return
    wait_until(30, f"the end of {name}", lambda: not _runs(process))


def restart(name: str) -> None:
    """Kill a process and start it again with its command."""
    stop(name)
    start_again(name)


def start_again(name: str) -> None:
    """Start a process that was stopped, with its command."""
    command, environment = json.loads(_record(name).read_text())
    start(name, command, **environment)


def wait_until(
    seconds: float, what: str, condition: Callable[[], object], pause: float = 0.25
) -> None:
    """Wait until `condition` is true. Raises NotReadyError after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise NotReadyError(f"{what} did not come in {seconds:.0f} s; see {LOGS}")
        time.sleep(pause)


def succeeds(*command: object) -> bool:
    done = subprocess.run(
        [str(word) for word in command], check=False, capture_output=True, timeout=60
    )
    return done.returncode == 0


def _runs(process: int) -> bool:
    """False also for one that has ended, and that nobody has asked for its exit code."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    if state == "Z":
        with suppress(ChildProcessError):
            os.waitpid(process, os.WNOHANG)
        return False
    return True


def _record(name: str) -> Path:
    return LOGS / f"{name}.command"


def _pid_file(name: str) -> Path:
    return LOGS / f"{name}.pid"
