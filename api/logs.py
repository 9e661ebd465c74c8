"""Log lines as Cloud Logging reads them: one JSON object a line.

Messages of the service go to standard error, the access log to standard output.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from datetime import datetime
from typing import TextIO

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

_FLUSH_SECONDS = 0.25
_MAX_BUFFERED_LINES = 5000
_FIELDS = {"levelname": "severity", "name": "logger", "exc_info": "exception"}
_UVICORN_EXTRAS = ("color_message",)
_MAX_PATH = 1000
_encode = json.JSONEncoder().encode


def install() -> None:
    """Write every message from INFO on to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(message_formatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def message_formatter() -> logging.Formatter:
    """A line has the fields time, severity, logger, message and, for an error, exception."""
    return JsonFormatter(
        ["levelname", "name", "message"],
        rename_fields=_FIELDS,
        timestamp="time",
        json_ensure_ascii=False,
        reserved_attrs=[*RESERVED_ATTRS, *_UVICORN_EXTRAS],
    )


class AccessLog:
    """One line per request, without query, token or e-mail address. For one event loop.

    A long path is cut.

    Lines are buffered and written a few times a second, so that no request waits for the disk.
    Buffered lines are lost when the process is killed. Without a stream nothing is logged.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._lines: list[str] = []

    def add(
        self, now: datetime, method: str, path: str, route: str, status: int, seconds: float
    ) -> None:
        if self._stream is None:
            return
        if not self._lines:
            asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.flush)
        self._lines.append(
            f'{{"time":"{now.isoformat()}","severity":"INFO","event":"request",'
            f'"method":{_encode(method)},"path":{_encode(path[:_MAX_PATH])},"route":"{route}",'
            f'"status":{status},"milliseconds":{seconds * 1000:.2f}}}\n'
        )
        if len(self._lines) >= _MAX_BUFFERED_LINES:
            self.flush()

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        if lines and self._stream is not None:
            self._stream.write("".join(lines))
            self._stream.flush()
