"""A driver that hangs: the first deadline is resumed, the second is the end of the night."""

import pytest

from tests.cluster import nightly_job, objects
from tests.cluster.nightly_job import RAYJOB
from tests.cluster.processes import wait_until
from tests.fake_gcs import Fault


@pytest.fixture
def hanging_storage(clean_night, storage_server):
    """The storage never acknowledges a part; gives what says how often that has happened."""
    hang = Fault("stall", op="insert", key="results/parts/*", seconds=3000, times=None)
    yield storage_server.faults.add(hang)
    storage_server.faults.clear()


def meet_deadline(rayjob, hang):
    """The deadline of an attempt whose driver hangs is over: KubeRay reads it at every look."""
    nightly_job.wait_for_phase("new", rayjob=rayjob)
    known = hang.fired
    nightly_job.wait_for_phase("driver", rayjob=rayjob)
    wait_until(nightly_job.PATIENCE, "a part that hangs", lambda: hang.fired > known)
    assert has_driver(rayjob)
    objects.patch("rayjob", rayjob, {"spec": {"activeDeadlineSeconds": 1}})
    wait_until(120, "the deadline", lambda: nightly_job.is_in("ended", rayjob), 1)


def has_driver(rayjob):
    """Whether a head of the attempt runs: in it runs its driver."""
    status = (objects.get("rayjob", rayjob) or {}).get("status") or {}
    heads = nightly_job.head_pods(status)
    return any(objects.phase(head) not in {"Succeeded", "Failed"} for head in heads)


def test_the_first_deadline_is_resumed_once_the_old_driver_has_ended(
    hanging_storage, storage_server, published_receipts
):
    night = nightly_job.start()
    meet_deadline(RAYJOB, hanging_storage)
    second = f"{RAYJOB}-2"
    wait_until(300, "the second attempt", lambda: objects.get("rayjob", second), 0.5)
    assert not has_driver(RAYJOB), "both drivers at once"
    storage_server.faults.clear()
    nightly_job.finish(night)
    assert night.exit_codes == [75, 0], night.log
    assert [outcome for outcome, _ in night.outcomes] == ["deadline", "published"]
    assert night.condition == "Complete"
    assert len(published_receipts()) == 1
    assert objects.names("pods", f"job-name={RAYJOB}") == set(), "KubeRay's submitter waits no more"


def test_the_second_deadline_ends_the_night(hanging_storage, published_receipts):
    night = nightly_job.start()
    for rayjob in (RAYJOB, f"{RAYJOB}-2"):
        meet_deadline(rayjob, hanging_storage)
    nightly_job.finish(night)
    assert night.exit_codes == [75, 1], night.log
    assert night.outcomes == [("deadline", 75), ("second_deadline", 1)]
    assert (night.condition, night.reason) == ("Failed", "PodFailurePolicy")
    assert published_receipts() == []
    wait_until(120, "the last driver's end", lambda: not has_driver(f"{RAYJOB}-2"), 1)
