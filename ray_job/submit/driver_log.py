"""The driver's log, copied to standard error while a submitter waits."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress

from ray_job.bucket.errors import StorecastError
from ray_job.submit.cluster import Cluster, LogStream, Pace

_LAST_LINES_SECONDS = 10.0
"""How long the end of the log may take to arrive after the RayJob ended."""


class DriverLog(threading.Thread):
    """Copies the driver's lines to standard error, each once, also after the log breaks off."""

    def __init__(self, cluster: Cluster, rayjob_name: str, pace: Pace) -> None:
        super().__init__(name="driver-log", daemon=True)
        self._cluster = cluster
        self._rayjob = rayjob_name
        self._pace = pace
        self._ended = threading.Event()
        self._stopped = False
        self._copied_lines = 0
        self._log: LogStream | None = None

    def run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._ended.wait(self._pace.retry)
            with suppress(StorecastError):
                self._log = None if self._stopped else self._cluster.driver_log(self._rayjob)
                if self._log is not None:
                    self._copy(self._log)

    def _copy(self, log: LogStream) -> None:
        for number, line in enumerate(log.lines()):
            if self._stopped:
                return
            if number >= self._copied_lines:
                self._copied_lines = number + 1
                sys.stderr.write(line + "\n")

    def finish(self) -> None:
        """Wait for the last lines."""
        self._ended.set()
        self.join(_LAST_LINES_SECONDS)

    def stop(self) -> None:
        """Stop at once. A thread that still reads when Python ends can crash it."""
        self._stopped = True
        self._ended.set()
        if self._log is not None:
            self._log.close()
        self.join(_LAST_LINES_SECONDS)
