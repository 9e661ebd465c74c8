"""What is left of the service while somebody attacks it: the probes, the memory, the other callers.

Times are asserted only here, and only coarsely. `python -m tests.benchmarks.api.attacks` measures
them.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.api.fixtures.attacks import (
    ATTACKS,
    LARGEST_MEGABYTES,
    SLOWEST_PROBE,
    Attacked,
    attacked_service,
    attacking,
)

SECONDS, LEAST_ANSWERS = 0.8, 3
"""A single slow answer says more about the machine than about the service."""
AGES = itertools.count(1)
"""Each request has another parameter, so that no answer is cached."""


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with attacked_service(tmp_path_factory.mktemp("attacked")) as service:
        yield service


@pytest.mark.parametrize("name", ATTACKS)
def test_probes_and_other_callers_are_answered_and_the_memory_is_bounded(attacked, name):
    slowest, largest = 0.0, 0.0
    seconds: list[float] = []
    with attacked.other_caller() as client, attacking(attacked, ATTACKS[name]):
        until = time.monotonic() + SECONDS
        while time.monotonic() < until or len(seconds) < LEAST_ANSWERS:
            slowest = max(slowest, attacked.probe())
            largest = max(largest, attacked.megabytes)
            seconds.append(attacked.forecasts(client, 1, next(AGES))[0])
        answer = httpx.get(f"http://127.0.0.1:{attacked.port}/livez", timeout=120)
    assert answer.status_code == 200
    assert slowest < SLOWEST_PROBE
    assert largest < LARGEST_MEGABYTES
    assert statistics.median(seconds) < SLOWEST_PROBE
