"""Some seconds of what `make soak` does for a minute."""

import re
import subprocess
import sys

import pytest


@pytest.mark.timeout(120)
def test_twelve_writers_and_three_readers():
    """No reader sees anything torn or mixed, and no acknowledged publication is lost or doubled."""
    told = subprocess.run(
        [sys.executable, "-m", "tests.processes.soak", "5"],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    counts = {name: int(number) for name, number in re.findall(r"(\w+) (\d+)", told.stdout)}
    assert counts["published"] >= 12
    assert counts["read"] >= 3
    assert "wrong: 0" in told.stdout
