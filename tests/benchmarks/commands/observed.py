"""A command as a whole process: its time, and what it and all its descendants use."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PARENT, _SESSION, _USER, _SYSTEM = 1, 3, 11, 12
"""Fields of /proc/PID/stat after the command's name: proc(5)."""
_INTERVAL = 0.2
_MEMORY_EVERY = 5
"""Summing the memory of all processes costs more than the rest: at every fifth sample only."""
_PSS = re.compile(r"^Pss:\s+(\d+)", re.MULTILINE)


@dataclass
class _Family:
    """A process and its descendants, also those that a daemon adopted: they share its session."""

    root: int
    members: set[int] = field(default_factory=set)
    cpu_seconds: dict[int, float] = field(default_factory=dict)
    peak_bytes: int = 0

    def sample(self, *, with_memory: bool) -> None:
        ticks = os.sysconf("SC_CLK_TCK")
        processes = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended meanwhile
            processes[int(path.parent.name)] = fields
        self.members.add(self.root)
        while (
            added := {
                process
                for process, fields in processes.items()
                if self.members & {int(fields[_PARENT]), int(fields[_SESSION])}
            }
            - self.members
        ):
            self.members |= added
        living = self.members & processes.keys()
        for process in living:
            fields = processes[process]
            self.cpu_seconds[process] = (int(fields[_USER]) + int(fields[_SYSTEM])) / ticks
        if with_memory:
            self.peak_bytes = max(self.peak_bytes, sum(map(_pss_bytes, living)))


def _pss_bytes(process: int) -> int:
    """What a process has of memory, with its share of what it has together with others."""
    try:
        match = _PSS.search(Path(f"/proc/{process}/smaps_rollup").read_text())
    except OSError:
        return 0
    return int(match[1]) * 1024 if match else 0


def observe(command: Sequence[str], environment: Mapping[str, str]) -> dict[str, float]:
    """Run a command to its end.

    Gives `seconds` of wall time, `cpu_seconds` of all its processes (each up to a fifth of a second
    before its end), and `peak_bytes`, the peak of their summed proportional set sizes. Raises
    RuntimeError with its last line where the command fails.
    """
    with tempfile.TemporaryFile("w+") as output:
        began = time.monotonic()
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        family = _Family(process.pid)
        number = 0
        while process.poll() is None:
            family.sample(with_memory=number % _MEMORY_EVERY == 0)
            number += 1
            time.sleep(_INTERVAL)
        seconds = time.monotonic() - began
        if process.returncode:
            output.seek(0)
            last = (output.read().strip().splitlines() or ["no reason given"])[-1]
            raise RuntimeError(f"exit code {process.returncode}: {last}")
    return {
        "seconds": seconds,
        "cpu_seconds": sum(family.cpu_seconds.values()),
        "peak_bytes": family.peak_bytes,
    }
