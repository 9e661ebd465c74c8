"""A night has one RayJob, even if submitters race, die or repeat; failure and force add another."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ray_job.bucket.errors import InputError
from ray_job.submit import TERMINATED, rayjob
from ray_job.submit.cluster import ClusterError
from tests.fake_kubernetes.server import Fault
from tests.k8s.support.submissions import (
    NAME,
    NIGHT,
    RUNNING,
    SUCCEEDED,
    acting_when,
    events,
    leave_receipt,
    rayjob_place,
    rayjobs,
    request_count,
)


def test_two_racing_submitters_make_one_rayjob(submit_night, fake, receipt_storage):
    def operate():
        leave_receipt(receipt_storage, NAME)
        fake.objects.set_status(rayjob_place(NAME), SUCCEEDED)

    with (
        acting_when(lambda: request_count(fake, "create") == 8, operate),
        ThreadPoolExecutor(8) as pool,
    ):
        codes = list(pool.map(lambda _: submit_night(), range(8)))
    assert codes == [0] * 8
    assert rayjobs(fake) == {NAME}
    assert request_count(fake, "create") == 8


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
    with pytest.raises(ClusterError, match="RayJobs of as-of 2026-11-22 have ended"):
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


def test_a_rayjob_that_is_deleted_between_two_requests_is_made_again(submit_night, fake):
    submit_night(wait=False)
    fake.objects.set_status(rayjob_place(NAME), {"jobDeploymentStatus": "Failed"})
    real, calls = fake.objects.get, []

    def get(where):
        if where == rayjob_place(NAME) and not calls:
            calls.append(fake.objects.delete(where))
        return real(where)

    fake.objects.get = get
    assert submit_night(wait=False) == 0
    assert rayjobs(fake) == {NAME}
    assert "status" not in real(rayjob_place(NAME))
