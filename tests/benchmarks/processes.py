"""What processes take: processor time with all that they started, and memory."""

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
    while added := {one for one, parent in parents.items() if parent in family} - family:
        family |= added
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(used.get(one, 0.0) for one in family) + ended.ru_utime + ended.ru_stime


def peak_bytes() -> int:
    """The most memory that this process has held.

    Not what getrusage says, which keeps the peak of whoever started the process: for a measurement
    that would be the benchmark, which may just have generated its data.
    """
    status = Path("/proc/self/status").read_text()
    [peak] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(peak) * 1024
