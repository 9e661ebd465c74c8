"""The fake Cloud Storage in a process of its own, and how often it was asked for what.

Prices are Cloud Storage's list prices of Standard storage in one region (us-central1, 2026), in
dollars: 0.005 for 1,000 operations of class A, which write or list, 0.0004 for 1,000 of class B,
which read; deletions are free.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_CLASS_A = 0.005 / 1000
_CLASS_B = 0.0004 / 1000
_READS = frozenset({"get", "stat", "head", "bucket"})
_FREE = frozenset({"delete", "abort", "batch", "part"})
_WAIT_SECONDS = 30.0
_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Requests:
    """What was asked of the storage: how often, by operation, and its own processor time."""

    by_operation: Mapping[str, int]
    cpu_seconds: float

    @property
    def reads(self) -> int:
        """Operations of class B."""
        return sum(number for name, number in self.by_operation.items() if name in _READS)

    @property
    def writes(self) -> int:
        """Operations of class A, listings included."""
        return sum(self.by_operation.values()) - self.reads - self.deletions

    @property
    def deletions(self) -> int:
        return sum(number for name, number in self.by_operation.items() if name in _FREE)

    @property
    def dollars(self) -> float:
        return self.writes * _CLASS_A + self.reads * _CLASS_B


@dataclass(slots=True)
class CountedStorage:
    """A storage at `url`. `take` tells what was asked since the last time."""

    url: str
    _process: int
    _counts_file: Path
    _cpu_seconds: float = 0.0

    def take(self) -> Requests:
        self._counts_file.unlink(missing_ok=True)
        os.kill(self._process, signal.SIGUSR1)
        deadline = time.monotonic() + _WAIT_SECONDS
        while not self._counts_file.exists():
            if time.monotonic() > deadline:
                raise RuntimeError("The storage does not tell its requests.")
            time.sleep(0.05)
        document = json.loads(self._counts_file.read_text())
        before, self._cpu_seconds = self._cpu_seconds, document["cpu_seconds"]
        return Requests(document["requests"], document["cpu_seconds"] - before)


@contextmanager
def counted_storage(bucket: str, directory: Path, latency_ms: float) -> Iterator[CountedStorage]:
    """A fake storage whose bucket holds a directory's files, until the exit."""
    with tempfile.TemporaryDirectory() as folder:
        counts_file = Path(folder, "requests.json")
        command = [sys.executable, "-m", "tests.fake_gcs", "--bucket", bucket, "--directory"]
        command += [str(directory), "--latency-ms", str(latency_ms), "--requests", str(counts_file)]
        with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                url = process.stdout.readline().strip()
                if not url:
                    raise RuntimeError("The fake did not start.")
                counted = CountedStorage(url, process.pid, counts_file)
                counted.take()  # what filling it took
                yield counted
            finally:
                process.terminate()
