"""Five seconds of `make soak`."""

import re
import subprocess

import pytest

from tests.support.processes import python_command


@pytest.mark.timeout(120)
def test_twelve_writers_and_three_readers():
    """No reader gets a damaged or mixed release; each acknowledged publication is there once."""
    process = subprocess.run(
        python_command("tests.processes.soak", 5),
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    counts = {name: int(number) for name, number in re.findall(r"(\w+) (\d+)", process.stdout)}
    assert counts["published"] >= 12
    assert counts["read"] >= 3
    assert "wrong: 0" in process.stdout
