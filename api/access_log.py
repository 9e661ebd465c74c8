"""The access log: one JSON object per request, without query, tokens or e-mails.

Lines are gathered and written a few times a second, so that a request does not wait for the disk.
"""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import TextIO

_EVERY_SECONDS = 0.25
_MOST_LINES = 5000


class AccessLog:
    """For one event loop. What was not written yet is lost when the process is killed."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._lines: list[str] = []

    def add(
        self, now: datetime, method: str, path: str, route: str, status: int, seconds: float
    ) -> None:
        if self._stream is None:
            return
        if not self._lines:
            asyncio.get_running_loop().call_later(_EVERY_SECONDS, self.flush)
        self._lines.append(
            f'{{"time":"{now.isoformat()}","severity":"INFO","event":"request",'
            f'"method":{json.dumps(method)},"path":{json.dumps(path)},"route":"{route}",'
            f'"status":{status},"milliseconds":{seconds * 1000:.2f}}}\n'
        )
        if len(self._lines) >= _MOST_LINES:
            self.flush()

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        if lines and self._stream is not None:
            self._stream.write("".join(lines))
            self._stream.flush()
