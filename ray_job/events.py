"""Events: what a run tells whoever watches it, one line each on standard error.

On a terminal a line is for a human; elsewhere it is one JSON object in the fields that Cloud
Logging understands (severity, message, labels), so that metrics and alerts can count events.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

LABELS = "logging.googleapis.com/labels"
_LOGGER = logging.getLogger("storecast")


class _Lines(logging.Handler):
    """Writes to the standard error of the moment, which a test or a caller may have exchanged."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr
        stream.write((_human(record) if stream.isatty() else _structured(record)) + "\n")
        stream.flush()


def emit(event: str, severity: str = "INFO", **fields: Any) -> None:
    """Tell that `event` happened, with its fields.

    `severity` is DEBUG, INFO, WARNING, ERROR or CRITICAL. What JSON cannot hold is written as text.
    """
    if not any(isinstance(handler, _Lines) for handler in _LOGGER.handlers):
        _LOGGER.addHandler(_Lines())
        _LOGGER.setLevel(logging.INFO)
        _LOGGER.propagate = False
    level = logging.getLevelNamesMapping()[severity]
    _LOGGER.log(level, event, extra={"event": event, "fields": fields})


def _human(record: logging.LogRecord) -> str:
    stamp = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
    return f"{stamp} {_sentence(record)}"


def _structured(record: logging.LogRecord) -> str:
    event, fields = _told(record)
    line = {
        "severity": record.levelname,
        "message": _sentence(record),
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
        LABELS: {"event": event},
        "event": event,
        **fields,
    }
    return json.dumps(line, default=str, ensure_ascii=False)


def _sentence(record: logging.LogRecord) -> str:
    event, fields = _told(record)
    told = " ".join(f"{key}={value}" for key, value in fields.items() if value is not None)
    return f"{event.replace('_', ' ')}{': ' if told else ''}{told}"


def _told(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    event: str = getattr(record, "event", record.getMessage())
    fields: dict[str, Any] = getattr(record, "fields", {})
    return event, fields
