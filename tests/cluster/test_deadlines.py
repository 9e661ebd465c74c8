"""A driver that hangs: the first deadline is resumed, the second is the end of the night."""

from datetime import timedelta

import pytest

from ray_job.bucket import receipts
from ray_job.submit.rayjob import night_name
from tests.cluster import nightly_job, objects
from tests.cluster.processes import wait_until
from tests.fake_gcs import Fault
from tests.k8s.support.nights import YESTERDAY

RESUMED, GIVEN_UP = YESTERDAY, YESTERDAY - timedelta(days=1)


@pytest.fixture
def hang(clean_night, storage_server):
    """Let the storage acknowledge no part of these nights, and gives what says how often.

    Those of other nights are acknowledged again.
    """

    def only(*nights):
        storage_server.faults.clear()
        return {
            as_of: storage_server.faults.add(
                Fault(
                    "stall", op="insert", key=f"results/parts/as_of={as_of}/*",
                    seconds=3000, times=None,
                )
            )
            for as_of in nights
        }  # fmt: skip

    yield only
    storage_server.faults.clear()


def meet_deadline(rayjob, hanging):
    """The deadline of an attempt whose driver hangs is over: KubeRay reads it at every look."""
    nightly_job.wait_for_phase("driver", rayjob=rayjob)
    wait_until(nightly_job.PATIENCE, "a part that hangs", lambda: hanging.fired)
    assert has_driver(rayjob)
    objects.patch("rayjob", rayjob, {"spec": {"activeDeadlineSeconds": 1}})
    wait_until(120, "the deadline", lambda: nightly_job.is_in("ended", rayjob), 1)


def has_driver(rayjob):
    """Whether a head of the attempt runs: in it runs its driver."""
    status = (objects.get("rayjob", rayjob) or {}).get("status") or {}
    heads = nightly_job.head_pods(status)
    return any(objects.phase(head) not in {"Succeeded", "Failed"} for head in heads)


def published(bucket, as_of):
    return [receipt for receipt in receipts.of_night(bucket, as_of) if receipt.published]


def test_the_first_deadline_is_resumed_and_the_second_ends_the_night(hang, bucket, timeline):
    """Two nights at once: one hangs once, one twice."""
    nights = {
        as_of: nightly_job.start(f"night-{as_of}", as_of=as_of) for as_of in (RESUMED, GIVEN_UP)
    }
    hanging = hang(*nights)
    for as_of, stalled in hanging.items():
        meet_deadline(night_name(as_of), stalled)
    timeline("both nights have met their first deadline")
    for as_of in nights:
        second = night_name(as_of, 2)
        wait_until(300, "the second attempt", lambda name=second: objects.get("rayjob", name), 0.5)
        assert not has_driver(night_name(as_of)), "both drivers at once"
    # Not before: a first driver that still runs would publish.
    hanging = hang(GIVEN_UP)
    timeline("second attempts of both, after the end of the first drivers")
    meet_deadline(night_name(GIVEN_UP, 2), hanging[GIVEN_UP])
    timeline("one of them has met its second deadline")
    for night in nights.values():
        nightly_job.finish(night)
    timeline("both Jobs have ended")
    resumed, given_up = nights.values()
    assert resumed.exit_codes == [75, 0], resumed.log
    assert [outcome for outcome, _ in resumed.outcomes] == ["deadline", "published"]
    assert resumed.condition == "Complete"
    assert len(published(bucket, RESUMED)) == 1
    waiting = objects.names("pods", f"job-name={night_name(RESUMED)}")
    assert waiting == set(), "KubeRay's submitter waits no more"
    assert given_up.exit_codes == [75, 1], given_up.log
    assert given_up.outcomes == [("deadline", 75), ("second_deadline", 1)]
    assert (given_up.condition, given_up.reason) == ("Failed", "PodFailurePolicy")
    assert published(bucket, GIVEN_UP) == []
    last = night_name(GIVEN_UP, 2)
    wait_until(120, "the last driver's end", lambda: not has_driver(last), 1)
