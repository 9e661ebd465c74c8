"""Events: one line each, a sentence on a terminal and JSON for Cloud Logging elsewhere."""

import io
import json
import sys
from datetime import date

import pytest

from ray_job.events import LABELS, emit


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_elsewhere_a_line_is_json_in_cloud_logging_s_fields(capsys):
    emit("run_finished", "ERROR", as_of=date(2026, 11, 22), seconds=1.5, stores={"failed": 2})
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert entry["severity"] == "ERROR"
    assert entry["message"] == "run finished: as_of=2026-11-22 seconds=1.5"
    assert entry[LABELS] == {"event": "run_finished"}
    assert (entry["event"], entry["as_of"], entry["stores"]) == (
        "run_finished",
        "2026-11-22",
        {"failed": 2},
    )
    assert entry["time"].endswith("+00:00")


def test_on_a_terminal_it_is_a_sentence(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    emit("submit_started", submission="storecast-20261122", nothing=None)
    (line,) = terminal.getvalue().splitlines()
    assert line[8:] == " submit started: submission=storecast-20261122"


def test_what_the_command_tells_by_itself_is_no_second_line_on_a_terminal(monkeypatch, capsys):
    emit("run_finished", sentence="Published.", seconds=1.5)
    entry = json.loads(capsys.readouterr().err)
    assert (entry["message"], entry["seconds"]) == ("Published.", 1.5)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    emit("run_finished", sentence="Published.", seconds=1.5)
    assert terminal.getvalue() == ""


def test_two_events_are_two_lines(capsys):
    emit("submit_heartbeat")
    emit("submit_heartbeat", seconds=60)
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_severity_that_is_none_is_refused():
    with pytest.raises(KeyError):
        emit("run_finished", "LOUD")
