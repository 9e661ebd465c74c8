"""A sample of `python -m tests.processes.kills`, which `make kills` runs as a whole."""

import subprocess

import pytest
from typer.main import get_command

from ray_job.__main__ import app
from tests.processes import kill_commands
from tests.support.processes import environment_without_ray, python_command


@pytest.mark.timeout(600)  # some two hundred processes, on a busy machine
def test_a_sample_of_all_commands_killed_at_their_changes():
    """Given again: the same reached state, exit code 0, and no temporary file after a clean-up."""
    process = subprocess.run(
        python_command("tests.processes.kills", "--at-most", 1),
        env=environment_without_ray(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    rows = [line for line in process.stdout.splitlines() if line.startswith("| `")]
    assert len(rows) == len(kill_commands.COMMANDS)
    assert all(int(row.split("|")[3]) > 0 and int(row.split("|")[5]) == 0 for row in rows)


def test_every_command_that_changes_something_is_killed():
    """Those that are not only read and print."""
    reading = {"plan", "backtest", "accuracy", "compare", "releases", "explain"}
    named = set(get_command(app).commands)
    killed = {name.split()[0] for name in kill_commands.COMMANDS}
    assert named - reading <= killed
