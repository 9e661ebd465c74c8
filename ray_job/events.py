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
        line = _human(record) if stream.isatty() else _structured(record)
        if line:
            stream.write(line + "\n")
            stream.flush()


def emit(event: str, severity: str = "INFO", sentence: str | None = None, **fields: Any) -> None:
    """Tell that `event` happened, with its fields.

    `severity` is DEBUG, INFO, WARNING, ERROR or CRITICAL. What JSON cannot hold is written as text.
    A `sentence` is the line's message, and one that the command tells by itself: on a terminal
    nobody reads it twice. Without it the message names the event and its plain fields.
    """
    if not any(isinstance(handler, _Lines) for handler in _LOGGER.handlers):
        _LOGGER.addHandler(_Lines())
        _LOGGER.setLevel(logging.INFO)
        _LOGGER.propagate = False
    level = logging.getLevelNamesMapping()[severity]
    _LOGGER.log(level, event, extra={"event": event, "sentence": sentence, "fields": fields})


def _human(record: logging.LogRecord) -> str | None:
    if getattr(record, "sentence", None):
        return None
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
    given: str | None = getattr(record, "sentence", None)
    if given:
        return given
    told = " ".join(
        f"{key}={value}"
        for key, value in fields.items()
        if value is not None and not isinstance(value, dict | list | tuple)
    )
    return f"{event.replace('_', ' ')}{': ' if told else ''}{told}"


def _told(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    event: str = getattr(record, "event", record.getMessage())
    fields: dict[str, Any] = getattr(record, "fields", {})
    return event, fields
