"""Processor time of a process and its descendants, and peak memory."""

from __future__ import annotations

import os
import resource
from pathlib import Path

_PARENT, _USER, _SYSTEM = 1, 11, 12
"""Fields of /proc/PID/stat after the command's name: proc(5)."""


def cpu_seconds() -> float:
    """Of this process, of its living descendants, and of its children that have ended."""
    ticks = os.sysconf("SC_CLK_TCK")
    parents, used = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        process = int(path.parent.name)
        parents[process] = int(fields[_PARENT])
        used[process] = (int(fields[_USER]) + int(fields[_SYSTEM])) / ticks
    family = {os.getpid()}
    while added := {process for process, parent in parents.items() if parent in family} - family:
        family |= added
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(used.get(process, 0.0) for process in family) + ended.ru_utime + ended.ru_stime


def peak_bytes() -> int:
    """The peak memory of this process, in bytes.

    getrusage would also count the peak of the process that started this one, and the benchmark,
    which does so, may have generated data before.
    """
    status = Path("/proc/self/status").read_text()
    [peak] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(peak) * 1024
