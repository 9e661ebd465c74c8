"""Events of a run, one line each on standard error.

On a terminal a line is a sentence. Elsewhere it is a JSON object with the fields that Cloud Logging
knows (severity, message, time, labels), so that log-based metrics and alerts can count events.
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
    """Writes to `sys.stderr` as it is at the time of the record: a caller may replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr
        line = _terminal_line(record) if stream.isatty() else _json_line(record)
        if line:
            stream.write(line + "\n")
            stream.flush()


def emit(event: str, severity: str = "INFO", sentence: str | None = None, **fields: Any) -> None:
    """Write a line about `event` with its fields.

    `severity` is DEBUG, INFO, WARNING, ERROR or CRITICAL; raises KeyError for another one. Values
    that JSON does not have are written as text. `sentence` is the line's message. The command
    prints it as well, so on a terminal an event with a sentence gives no line. Without a sentence
    the message is made of the event and its plain fields.
    """
    if not any(isinstance(handler, _Lines) for handler in _LOGGER.handlers):
        _LOGGER.addHandler(_Lines())
        _LOGGER.setLevel(logging.INFO)
        _LOGGER.propagate = False
    level = logging.getLevelNamesMapping()[severity]
    _LOGGER.log(level, event, extra={"event": event, "sentence": sentence, "fields": fields})


def _terminal_line(record: logging.LogRecord) -> str | None:
    if getattr(record, "sentence", None):
        return None
    stamp = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
    return f"{stamp} {_message(record)}"


def _json_line(record: logging.LogRecord) -> str:
    event, fields = _event(record)
    line = {
        "severity": record.levelname,
        "message": _message(record),
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
        LABELS: {"event": event},
        "event": event,
        **fields,
    }
    return json.dumps(line, default=str, ensure_ascii=False)


def _message(record: logging.LogRecord) -> str:
    event, fields = _event(record)
    sentence: str | None = getattr(record, "sentence", None)
    if sentence:
        return sentence
    pairs = " ".join(
        f"{key}={value}"
        for key, value in fields.items()
        if value is not None and not isinstance(value, dict | list | tuple)
    )
    return f"{event.replace('_', ' ')}{': ' if pairs else ''}{pairs}"


def _event(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    event: str = getattr(record, "event", record.getMessage())
    fields: dict[str, Any] = getattr(record, "fields", {})
    return event, fields
