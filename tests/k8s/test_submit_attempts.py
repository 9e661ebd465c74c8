"""A night has one RayJob, even if submitters race, die or repeat; failure and force add another."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from ray_job.bucket.errors import InputError, TransientError
from ray_job.submit import TERMINATED, rayjob
from ray_job.submit.api_errors import ClusterError
from ray_job.submit.cluster import Pace
from tests.fake_kubernetes.objects import Place
from tests.fake_kubernetes.server import Fault
from tests.k8s.support.submissions import (
    NAME,
    NAMESPACE,
    NIGHT,
    RUNNING,
    SUCCEEDED,
    acting_when,
    events,
    leave_receipt,
    rayjob_place,
    rayjobs,
    request_count,
    start_head,
)


def test_two_racing_submitters_make_one_rayjob(submit_night, fake, receipt_storage):
    def operate():
        leave_receipt(receipt_storage, NAME)
        fake.objects.set_status(rayjob_place(NAME), SUCCEEDED)

    with (
        acting_when(lambda: request_count(fake, "watch") >= 8, operate),
        ThreadPoolExecutor(8) as pool,
    ):
        codes = list(pool.map(lambda _: submit_night(), range(8)))
    assert codes == [0] * 8
    assert rayjobs(fake) == {NAME}
    assert 1 <= request_count(fake, "create") <= 8


def test_a_lost_acknowledgement_makes_one_rayjob(submit_night, fake, receipt_storage, operator):
    fake.faults.append(Fault("create", ack_lost=True))
    operator(SUCCEEDED, before=lambda name: leave_receipt(receipt_storage, name))
    assert submit_night() == 0
    assert rayjobs(fake) == {NAME}


@pytest.mark.usefixtures("kubeconfig")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_submitter_leaves_the_rayjob_and_the_next_attaches(fake, receipt_storage, how):
    def start():
        return subprocess.Popen(
            [
                sys.executable,
                str(Path(__file__).parent / "support" / "submitter.py"),
                receipt_storage.url,
                str(NIGHT),
            ],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    with start() as first:
        while not any(request.verb == "watch" for request in fake.requests):
            time.sleep(0.02)
        first.send_signal(how)
        output, errors = first.communicate(timeout=20)
    if how == signal.SIGTERM:
        assert first.returncode == TERMINATED
        assert output == f"{TERMINATED}\n"
        assert events(errors)[-1]["outcome"] == "left_running"
    assert rayjobs(fake) == {NAME}

    with start() as second:
        time.sleep(0.5)
        leave_receipt(receipt_storage, NAME, 4)
        fake.objects.set_status(rayjob_place(NAME), SUCCEEDED)
        output, errors = second.communicate(timeout=20)
    assert (second.returncode, output) == (4, "4\n"), errors
    assert events(errors)[0]["attached"] is True
    assert rayjobs(fake) == {NAME}


def test_a_rayjob_deleted_while_it_runs_is_a_failure(submit_night, fake):
    submit_night(wait=False)
    with (
        acting_when(lambda: request_count(fake, "watch"), fake.objects.delete, rayjob_place(NAME)),
        pytest.raises(ClusterError, match="deleted"),
    ):
        submit_night()


def test_a_failed_night_gets_a_new_attempt(submit_night, fake, receipt_storage, operator):
    submit_night(wait=False)
    fake.objects.set_status(
        rayjob_place(NAME), {"jobDeploymentStatus": "Failed", "reason": "AppFailed"}
    )
    operator(SUCCEEDED, before=lambda name: leave_receipt(receipt_storage, name))
    assert submit_night() == 0
    assert rayjobs(fake) == {NAME, f"{NAME}-2"}


MISSED = {"jobDeploymentStatus": "Failed", "jobStatus": "RUNNING", "reason": "DeadlineExceeded"}


def test_the_first_deadline_is_tried_again_and_the_second_is_not(
    submit_night, fake, receipt_storage, operator, capsys
):
    operator(RUNNING, MISSED)
    for error, outcome, code in (
        (TransientError, "deadline", 75),
        (ClusterError, "second_deadline", 1),
    ):
        with pytest.raises(error, match="before its deadline"):
            submit_night()
        finished = events(capsys.readouterr().err)[-1]
        assert (finished["outcome"], finished["exit_code"]) == (outcome, code)
    assert rayjobs(fake) == {NAME, f"{NAME}-2"}


def test_the_old_driver_has_ended_before_the_next_one_starts(submit_night, fake):
    """Also that of a RayJob that was deleted, but not that of another night."""
    cluster = Place("rayclusters.ray.io", NAMESPACE, f"{NAME}-abcde")
    fake.objects.create(cluster, {})
    ray_submitter = Place("jobs.batch", NAMESPACE, NAME)
    fake.objects.create(ray_submitter, {})
    heads = [start_head(fake, f"{NAME}-abcde"), start_head(fake, f"{NAME}-3-fghij")]
    start_head(fake, "storecast-20261121-klmno")
    submit_night(wait=False, as_of=NIGHT - timedelta(days=7))
    fake.objects.create(rayjob_place(NAME), {"status": {**MISSED, "rayClusterName": cluster.name}})
    at_creation = []

    def end_heads():
        at_creation.append(rayjobs(fake))
        for head in heads:
            fake.objects.delete(head)

    deleted = {f"{NAME}-abcde", f"{NAME}-3-fghij"}

    def ready():
        names = {request.name for request in fake.requests if request.verb == "delete"}
        return names >= deleted and request_count(fake, "list") > 8

    with acting_when(ready, end_heads):
        assert submit_night(wait=False) == 0
    assert not any(f"{NAME}-2" in names for names in at_creation)
    assert f"{NAME}-2" in rayjobs(fake)
    assert fake.objects.get(cluster) is None
    assert fake.objects.get(ray_submitter) is None


def test_a_driver_that_does_not_end_holds_up_no_night_for_ever(submit_night, fake, capsys):
    """For example on a node that does not answer."""
    fake.objects.create(rayjob_place(NAME), {"status": MISSED})
    start_head(fake, f"{NAME}-abcde")
    assert submit_night(wait=False, pace=Pace(watch=1, retry=0.02, patience=0.3)) == 0
    assert "submit_driver_remains" in {event["event"] for event in events(capsys.readouterr().err)}
    assert f"{NAME}-2" in rayjobs(fake)


def test_a_finished_night_is_not_run_again(submit_night, fake, receipt_storage):
    submit_night(wait=False)
    leave_receipt(receipt_storage, NAME, 4, status="published_with_failures")
    fake.objects.set_status(rayjob_place(NAME), SUCCEEDED)
    assert [submit_night(), submit_night()] == [4, 4]
    assert rayjobs(fake) == {NAME}


def test_there_is_a_last_attempt(submit_night, fake):
    for attempt in range(1, rayjob.LAST_ATTEMPT + 1):
        name = rayjob.night_name(NIGHT, attempt)
        fake.objects.create(rayjob_place(name), {"metadata": {"name": name}})
        fake.objects.set_status(rayjob_place(name), {"jobDeploymentStatus": "Failed"})
    with pytest.raises(ClusterError, match="attempt 9 of as-of 2026-11-22 has ended"):
        submit_night()


def test_a_night_that_was_refused_is_run_again_by_force(
    submit_night, fake, receipt_storage, operator
):
    submit_night(wait=False)
    leave_receipt(receipt_storage, NAME, 3, status="refused", published=False)
    fake.objects.set_status(rayjob_place(NAME), SUCCEEDED)
    assert submit_night() == 3, "without force it is the same refusal"
    operator(SUCCEEDED, before=lambda name: leave_receipt(receipt_storage, name, run_id="r2"))
    assert submit_night(force=True) == 0
    assert rayjobs(fake) == {NAME, f"{NAME}-2"}
    forced = fake.objects.get(rayjob_place(f"{NAME}-2"))["spec"]["entrypoint"]
    assert forced == "storecast run --ingest --as-of 2026-11-22 --force"


def test_force_waits_for_no_run_that_is_not_forced(submit_night, fake):
    submit_night(wait=False)
    with pytest.raises(InputError, match="runs this night already, not forced"):
        submit_night(force=True)
    assert rayjobs(fake) == {NAME}


def test_a_lost_acknowledgement_of_a_forced_run_is_found(
    submit_night, fake, receipt_storage, operator
):
    fake.faults.append(Fault("create", ack_lost=True))
    operator(RUNNING, before=lambda name: leave_receipt(receipt_storage, name))

    def runs():
        resource = fake.objects.get(rayjob_place(NAME)) or {}
        return request_count(fake, "watch") and resource.get("status") == RUNNING

    with acting_when(runs, fake.objects.set_status, rayjob_place(NAME), SUCCEEDED):
        assert submit_night(force=True) == 0
    assert rayjobs(fake) == {NAME}


def test_an_adhoc_run_cannot_be_forced(submit_night, fake):
    with pytest.raises(InputError, match="--adhoc publishes nothing"):
        submit_night(adhoc=True, force=True)
    assert rayjobs(fake) == set()


def test_an_adhoc_run_has_a_rayjob_of_its_own(submit_night, fake, receipt_storage, operator):
    operator(
        SUCCEEDED,
        before=lambda name: leave_receipt(
            receipt_storage, name, published=False, status="unpublished"
        ),
    )
    assert submit_night(adhoc=True) == 0
    (name,) = rayjobs(fake)
    assert name.startswith("storecast-adhoc-20261122-000005-")
    assert fake.objects.get(rayjob_place(name))["spec"]["entrypoint"].endswith("--no-publish")


def test_a_rayjob_that_appears_between_two_requests_is_followed(submit_night, fake):
    real, calls = fake.objects.create, []

    def create(place, given):
        if place == rayjob_place(NAME) and not calls:
            calls.append(real(place, given))
        return real(place, given)

    fake.objects.create = create
    assert submit_night(wait=False) == 0
    assert rayjobs(fake) == {NAME}
