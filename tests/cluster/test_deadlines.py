"""A driver that hangs: the first deadline is resumed, the second is the end of the night."""

import pytest

from tests.cluster import nightly_job, objects
from tests.cluster.nightly_job import RAYJOB
from tests.cluster.processes import wait_until
from tests.fake_gcs import Fault

DEADLINE = 90
HANGS = {"op": "insert", "key": "results/parts/*", "seconds": 3000, "times": None}


@pytest.fixture
def short_deadline(clean_night, storage_server):
    """Attempts of a minute and a half, and a storage that never acknowledges a part.

    Returns what lets the attempts to come run on.
    """
    template = objects.get("rayjob", "storecast-template")["spec"]

    def limit(seconds):
        objects.patch("rayjob", "storecast-template", {"spec": {"activeDeadlineSeconds": seconds}})

    def let_run():
        storage_server.faults.clear()
        limit(template["activeDeadlineSeconds"])

    limit(DEADLINE)
    storage_server.faults.add(Fault("stall", **HANGS))
    yield let_run
    let_run()


def heads(rayjob):
    resource = objects.get("rayjob", rayjob)
    return nightly_job.head_pods((resource or {}).get("status") or {})


def test_the_first_deadline_is_resumed_once_the_old_driver_has_ended(
    short_deadline, published_receipts
):
    night = nightly_job.start()
    nightly_job.wait_for_phase("driver")
    assert heads(RAYJOB)
    wait_until(DEADLINE + 120, "the deadline", lambda: nightly_job.is_in("ended", RAYJOB), 1)
    short_deadline()
    seen = []

    def second():
        seen.append((bool(heads(RAYJOB)), bool(objects.get("rayjob", f"{RAYJOB}-2"))))
        return seen[-1][1]

    wait_until(300, "the second attempt", second, 0.5)
    assert (True, True) not in seen, "both drivers at once"
    nightly_job.finish(night)
    assert night.exit_codes == [75, 0], night.log
    assert [outcome for outcome, _ in night.outcomes] == ["deadline", "published"]
    assert night.condition == "Complete"
    assert len(published_receipts()) == 1
    assert objects.names("pods", f"job-name={RAYJOB}") == set(), "KubeRay's submitter waits no more"


def test_the_second_deadline_ends_the_night(short_deadline, published_receipts):
    night = nightly_job.finish(nightly_job.start())
    assert night.exit_codes == [75, 1], night.log
    assert night.outcomes == [("deadline", 75), ("second_deadline", 1)]
    assert (night.condition, night.reason) == ("Failed", "PodFailurePolicy")
    assert published_receipts() == []
    wait_until(120, "the last driver's end", lambda: not heads(f"{RAYJOB}-2"), 1)
