"""What dies in the middle of a night: the night is published once, whatever it is and whenever.

A seeded sample of faults and phases, and a pair of faults. STORECAST_CLUSTER_FAULTS=all takes the
whole matrix: each fault in each phase, and in three phases each fault with another one.
STORECAST_CLUSTER_SEED chooses another sample, and other pairs.
"""

import os
import random
import time
from itertools import combinations, product

import pytest

from ray_job.bucket import receipts
from tests.cluster import faults, machines, nightly_job, objects
from tests.cluster.faults import FAULTS, PHASES
from tests.cluster.seed import EARLIER
from tests.k8s.support.nights import YESTERDAY

_SINGLE = [((chaos,), phase) for chaos, phase in product(FAULTS, PHASES) if phase in chaos.phases]
_SAMPLE = 2


def pairs(phase):
    """All pairs of faults that strike in a phase."""
    return list(combinations([chaos for chaos in FAULTS if phase in chaos.phases], 2))


def coupled(phase, chooser):
    """Pairs in which each fault of a phase is once, but for one where their number is odd."""
    mixed = [chaos for chaos in FAULTS if phase in chaos.phases]
    chooser.shuffle(mixed)
    return [
        tuple(sorted(pair, key=FAULTS.index)) for pair in zip(mixed[::2], mixed[1::2], strict=False)
    ]


def cases():
    chooser = random.Random(os.environ.get("STORECAST_CLUSTER_SEED", "1"))
    if os.environ.get("STORECAST_CLUSTER_FAULTS") == "all":
        two = [(pair, phase) for phase in PHASES[1:] for pair in coupled(phase, chooser)]
        return [*two, *_SINGLE]
    phase = chooser.choice(PHASES[1:])
    return [*chooser.sample(_SINGLE, _SAMPLE), (chooser.choice(pairs(phase)), phase)]


def describe(case):
    pair, phase = case
    return f"{' and '.join(chaos.name for chaos in pair)} in phase {phase}"


@pytest.mark.parametrize("case", cases(), ids=describe)
def test_the_night_is_published_once(case, served, bucket, storage_server, ask):
    pair, phase = case
    if any(chaos.process for chaos in pair) and machines.current() is None:
        pytest.skip(machines.REASON)
    releases = faults.prepare(phase, storage_server)
    began = time.monotonic()
    night = nightly_job.start(as_of=faults.AS_OF)
    faults.wait_for(phase, storage_server, releases)
    struck = time.monotonic() - began
    for chaos in pair:
        chaos.strike(storage_server)
    meanwhile = ask(served)
    faults.mend(pair)
    nightly_job.finish(night)
    seconds = time.monotonic() - began
    published = [
        receipt.as_of for receipt in receipts.of_night(bucket, faults.AS_OF) if receipt.published
    ]
    rayjobs = objects.names("rayjobs", "app.kubernetes.io/component=run")
    as_of = meanwhile.json().get("as_of")
    said = f"{meanwhile.status_code}, {as_of}"
    nightly_job.report(
        f"| {describe(case)} | {struck:.0f} s | {seconds:.0f} s | {night.condition} |"
        f" {', '.join(map(str, night.exit_codes))} | {len(published)} | {len(rayjobs)} | {said} |",
        [],
    )
    assert (night.condition, night.exit_codes[-1]) == ("Complete", 0), night.log[-3000:]
    assert published == [faults.AS_OF]
    # What is struck is a night; the API has one release or the other.
    assert (meanwhile.status_code, as_of) in {(200, str(EARLIER)), (200, str(faults.AS_OF))}
    storage_server.faults.clear()
    again = nightly_job.start("again", as_of=faults.AS_OF)
    following = nightly_job.start("following")
    assert nightly_job.finish(again).exit_codes == [0]
    nightly_job.finish(following)
    added = objects.names("rayjobs", "app.kubernetes.io/component=run") - rayjobs
    assert added == {nightly_job.RAYJOB}, "the night ran again"
    assert (following.condition, following.exit_codes) == ("Complete", [0]), following.log[-3000:]
    assert [receipt.published for receipt in receipts.of_night(bucket, YESTERDAY)] == [True]
