"""Processes that a test starts, and the log lines that they write."""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def python_command(module: str, *arguments: object) -> list[str]:
    """`python -m module`, with the arguments as text."""
    return [sys.executable, "-m", module, *map(str, arguments)]


RAY_IN_TESTS = {"RAY_worker_niceness": "0"}
"""By default Ray's workers get what all others leave, and beside other tests that is little."""


def environment_without_ray(**variables: str) -> dict[str, str]:
    """This process's variables without those of Ray, so that no cluster is joined, and more."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return kept | RAY_IN_TESTS | variables


def log_events(text: str, name: str | None = None) -> list[dict[str, Any]]:
    """The JSON lines of a log; with a name, the events of that name."""
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [line for line in lines if name in (None, line.get("event"))]
