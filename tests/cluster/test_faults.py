"""What dies in the middle of a night: the night is published once, whatever it is and whenever.

A seeded sample of faults and phases, and pairs of faults. STORECAST_CLUSTER_FAULTS=all takes the
whole matrix, STORECAST_CLUSTER_SEED another sample.
"""

import os
import random
import time
from itertools import combinations, product

import pytest

from tests.cluster import faults, nightly_job, objects
from tests.k8s.support.nights import YESTERDAY

_SINGLE = [((chaos,), phase) for chaos, phase in product(faults.FAULTS, faults.PHASES)]
_PAIRS = [
    (pair, phase)
    for pair, phase in product(combinations(faults.FAULTS, 2), ("head", "driver", "publishing"))
]
_SAMPLE = 6


def cases():
    if os.environ.get("STORECAST_CLUSTER_FAULTS") == "all":
        return _SINGLE
    chooser = random.Random(os.environ.get("STORECAST_CLUSTER_SEED", "1"))
    return [*chooser.sample(_SINGLE, _SAMPLE), *chooser.sample(_PAIRS, 2)]


def describe(case):
    pair, phase = case
    return f"{' and '.join(chaos.name for chaos in pair)} in phase {phase}"


@pytest.mark.parametrize("case", cases(), ids=describe)
def test_the_night_is_published_once(case, clean_night, storage_server, published_receipts, ask):
    pair, phase = case
    faults.prepare(phase, storage_server)
    began = time.monotonic()
    night = nightly_job.start()
    faults.wait_for(phase, storage_server)
    struck = time.monotonic() - began
    for chaos in pair:
        chaos.act(storage_server)
    meanwhile = ask("/v1/stores/s002/forecast").status_code
    nightly_job.finish(night)
    seconds = time.monotonic() - began
    made = sorted(objects.names("rayjobs") - {"storecast-template"})
    row = (
        f"| {describe(case)} | {struck:.0f} s | {seconds:.0f} s | {night.condition} |"
        f" {', '.join(map(str, night.exit_codes))} | {len(published_receipts())} |"
        f" {len(made)} | {meanwhile} |"
    )
    nightly_job.report(row, [])
    assert (night.condition, night.exit_codes[-1]) == ("Complete", 0), night.log[-3000:]
    assert len(published_receipts()) == 1
    assert published_receipts()[0].as_of == YESTERDAY
    again = nightly_job.finish(nightly_job.start("again"))
    assert again.exit_codes == [0]
    assert len(published_receipts()) == 1, "the night that is over is not run again"
