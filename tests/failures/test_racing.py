"""Five seconds of `make soak`, and commands in processes of their own at once."""

import os
import re
import subprocess

import pytest

from ray_job.bucket import keys, receipts
from tests.support.processes import python_command
from tests.support.shop import DAY, LAST


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


def test_two_nights_and_two_clean_ups_in_processes_at_once(shop):
    """Each ingests and publishes the same night, while others delete what is old."""
    shop.run(LAST - DAY)
    orphans = [keys.part(LAST - 30 * DAY, f"{number:032x}", 0) for number in range(20)]
    for key in orphans:
        shop.storage.create(key, b"x")
        os.utime(shop.storage.root / key, (0, 0))
    url = shop.storage.url
    commands = [(url,), (url,), (url, "clean-up"), (url, "clean-up")]
    processes = [
        subprocess.Popen(
            python_command("tests.processes.night", *arguments),
            stderr=subprocess.PIPE,
            text=True,
        )
        for arguments in commands
    ]
    for process in processes:
        _, error = process.communicate()
        assert process.returncode == 0, error
    assert [entry.as_of for entry in shop.pointer.history] == [LAST, LAST - DAY]
    assert shop.stores()["s011"]["as_of"] == LAST
    [published] = [each for each in receipts.of_night(shop.storage, LAST) if each.published]
    assert published.release == shop.pointer.current
    shop.check()
    assert not [key for key in orphans if shop.storage.stat(key)]
