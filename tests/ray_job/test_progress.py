"""Progress of long stages, on a terminal and elsewhere."""

import io
import logging

import pytest
from rich.console import Console

from ray_job.bucket.errors import StorageError
from ray_job.progress import BarProgress, LogProgress, SilentProgress, progress_for


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, logger="ray_job.progress")
    return lambda: [record.getMessage() for record in caplog.records]


def test_a_line_every_few_seconds_and_one_at_the_end(lines, caplog):
    seconds = iter([0.0, 4.0, 5.0, 6.0, 9.0, 10.0, 11.0])
    with LogProgress(lambda: next(seconds), interval=5).stage("read", 8, "files") as stage:
        stage.advance()
        stage.advance(rows=10)
        stage.advance(2)
        stage.advance(2)
        stage.advance(2, rows=40)
    line = "progress stage=read state={} done={} total=8 unit=files seconds={} rows={}"
    assert lines() == [
        line.format("running", 2, "5.0 remaining_seconds=15.0", 10),
        line.format("running", 8, "10.0 remaining_seconds=0.0", 40),
        line.format("done", 8, "11.0", 40),
    ]
    assert caplog.records[0].fields["rows"] == 10


def test_a_short_stage_writes_no_line(lines):
    with LogProgress(lambda: 1.0).stage("read") as stage:
        stage.advance()
    assert lines() == []


def test_a_stage_that_stops_says_so(lines):
    def fail():
        with LogProgress(lambda: 1.0).stage("read") as stage:
            stage.advance()
            raise StorageError("no")

    with pytest.raises(StorageError):
        fail()
    assert lines() == ["progress stage=read state=stopped done=1 seconds=0.0"]


def test_a_terminal_gets_bars():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    assert isinstance(progress_for(stream, lambda: 0.0), BarProgress)
    assert isinstance(progress_for(io.StringIO(), lambda: 0.0), LogProgress)
    console = Console(file=stream, force_terminal=True, width=120)
    with BarProgress(console).stage("write", 3, "stores") as stage:
        stage.advance(3, rows=12)
    bars = stream.getvalue()
    assert "write" in bars
    assert "3/3" in bars
    assert "rows=12" in bars


def test_silent_progress_shows_nothing():
    with SilentProgress().stage("read", 1, "files") as stage:
        stage.advance(rows=1)
