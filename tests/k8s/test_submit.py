"""`submit` against a Kubernetes API over HTTP, with the rights that its Role has and no others."""

import threading
import time
from datetime import date

import pytest

from ray_job import settings
from ray_job.bucket.errors import InputError, TransientError, exit_code
from ray_job.submit import rayjob, submit
from ray_job.submit.api_errors import ClusterError
from ray_job.submit.cluster import Cluster
from tests.fake_kubernetes.objects import Place
from tests.k8s.support.submissions import (
    NAME,
    NAMESPACE,
    NIGHT,
    NOW,
    RUNNING,
    SUCCEEDED,
    acting_when,
    events,
    leave_receipt,
    rayjob_place,
    rayjobs,
    request_count,
    start_head,
    start_pod,
)


@pytest.mark.parametrize("exit_code", [0, 3, 4])
def test_the_receipt_decides_the_exit_code(
    submit_night, fake, receipt_storage, operator, capsys, exit_code
):
    operator(
        RUNNING, SUCCEEDED, before=lambda name: leave_receipt(receipt_storage, name, exit_code)
    )
    assert submit_night() == exit_code
    assert rayjobs(fake) == {NAME}
    started, *_, finished = events(capsys.readouterr().err)
    assert (started["event"], started["submission"]) == ("submit_started", NAME)
    assert started["attached"] is False
    assert (finished["event"], finished["outcome"]) == ("submit_finished", "published")
    assert finished["exit_code"] == exit_code


def test_without_wait_it_only_creates(submit_night, fake):
    assert submit_night(wait=False) == 0
    assert rayjobs(fake) == {NAME}


@pytest.mark.usefixtures("kubeconfig")
def test_waiting_needs_the_bucket():
    with pytest.raises(InputError, match="needs the bucket"):
        submit(settings.load(None), None, as_of=NIGHT, wait=True, adhoc=False, now=NOW)


def test_a_run_that_found_all_done_answers_with_the_night_s_receipt(
    submit_night, receipt_storage, operator
):
    leave_receipt(receipt_storage, "storecast-hourly", 4)
    operator(SUCCEEDED)
    assert submit_night() == 4


def test_no_receipt_is_a_failure(submit_night, operator):
    operator(SUCCEEDED)
    with pytest.raises(ClusterError, match="left no receipt"):
        submit_night()


def test_the_as_of_is_the_day_before_the_schedule(submit_night, fake, monkeypatch):
    scheduled = {"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-11-21T00:00:00Z"}
    fake.objects.create(
        Place("jobs.batch", NAMESPACE, "storecast-nightly-1"),
        {"metadata": {"name": "storecast-nightly-1", "annotations": scheduled}},
    )
    monkeypatch.setenv("STORECAST_JOB_NAME", "storecast-nightly-1")
    assert submit_night(as_of=None, wait=False) == 0
    assert rayjobs(fake) == {"storecast-20261120"}


def test_a_job_made_by_hand_has_no_schedule_and_means_yesterday(submit_night, fake, monkeypatch):
    fake.objects.create(
        Place("jobs.batch", NAMESPACE, "by-hand"), {"metadata": {"name": "by-hand"}}
    )
    monkeypatch.setenv("STORECAST_JOB_NAME", "by-hand")
    assert submit_night(as_of=None, wait=False) == 0
    assert rayjobs(fake) == {NAME}


def test_an_as_of_later_than_yesterday_is_refused(submit_night, fake):
    with pytest.raises(InputError, match="2026-11-23 is later than yesterday"):
        submit_night(as_of=date(2026, 11, 23))
    assert rayjobs(fake) == set()


@pytest.mark.parametrize(
    ("status", "error", "match"),
    [
        ({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}, ClusterError, "stopped"),
        ({"jobDeploymentStatus": "ValidationFailed", "message": "no"}, InputError, "invalid: no"),
        (
            {"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"},
            TransientError,
            "before its deadline",
        ),
        (
            {"jobDeploymentStatus": "Failed", "reason": "SubmissionFailed"},
            TransientError,
            "lost its head",
        ),
        (
            {"jobDeploymentStatus": "Failed", "reason": "AppFailed", "message": "exit code 1"},
            ClusterError,
            "exit code 1",
        ),
    ],
)
def test_failures_are_told_apart(submit_night, operator, capsys, status, error, match):
    operator(RUNNING, status)
    with pytest.raises(error, match=match):
        submit_night()
    finished = events(capsys.readouterr().err)[-1]
    assert finished["severity"] == "ERROR"
    assert finished["outcome"] not in {"published", "unknown"}
    assert finished["exit_code"] == exit_code(error(""))


def test_the_role_is_what_is_needed_and_no_more(
    submit_night, fake, receipt_storage, operator, monkeypatch
):
    old = {"labels": rayjob.MANAGED_BY, "creationTimestamp": "2026-01-01T00:00:00Z"}
    fake.objects.create(rayjob_place("old"), {"metadata": old, "status": SUCCEEDED})
    fake.objects.create(
        Place("jobs.batch", NAMESPACE, "by-hand"), {"metadata": {"name": "by-hand"}}
    )
    monkeypatch.setenv("STORECAST_JOB_NAME", "by-hand")
    start_pod(fake, f"{NAME}-2")
    fake.objects.write_log("submitter-pod", "hello", close=True)
    missed = {
        "jobDeploymentStatus": "Failed",
        "reason": "DeadlineExceeded",
        "rayClusterName": f"{NAME}-abcde",
    }
    fake.objects.create(rayjob_place(NAME), {"status": missed})
    head = start_head(fake, f"{NAME}-abcde")

    def leave_receipt_slowly(name):
        leave_receipt(receipt_storage, name)
        time.sleep(0.5)

    operator(RUNNING, SUCCEEDED, before=leave_receipt_slowly)
    with acting_when(lambda: request_count(fake, "delete"), fake.objects.delete, head):
        assert submit_night(as_of=None) == 0
    assert rayjobs(fake) == {NAME, f"{NAME}-2"}
    used = {(request.group, request.resource, request.verb) for request in fake.requests}
    granted = {
        (group, resource, verb)
        for rule in fake.rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert used == granted


def test_the_driver_s_lines_pass_through_once(submit_night, fake, receipt_storage, capsys):
    start_pod(fake)
    submit_night(wait=False)
    leave_receipt(receipt_storage, NAME)

    def drive():
        fake.objects.write_log("submitter-pod", "first", "second")
        time.sleep(0.4)
        fake.objects.write_log("submitter-pod", "last", close=True)
        fake.objects.set_status(rayjob_place(NAME), SUCCEEDED)

    thread = threading.Thread(target=drive)
    thread.start()
    assert submit_night() == 0
    thread.join()
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if not line.startswith("{")] == ["first", "second", "last"]


def test_a_hung_driver_is_seen_by_its_heartbeats(submit_night, fake, receipt_storage, capsys):
    submit_night(wait=False)
    leave_receipt(receipt_storage, NAME)
    fake.objects.set_status(rayjob_place(NAME), RUNNING)
    timer = threading.Timer(2.5, fake.objects.set_status, [rayjob_place(NAME), SUCCEEDED])
    timer.start()
    assert submit_night() == 0
    timer.join()
    beats = [
        event for event in events(capsys.readouterr().err) if event["event"] == "submit_heartbeat"
    ]
    assert beats
    assert beats[0]["phase"] == "Running/RUNNING"
    assert beats[0]["submission"] == NAME


def test_a_pod_that_cannot_start_is_named(submit_night, fake, receipt_storage, operator, capsys):
    """While it waits by a heartbeat, and at the end by the message."""
    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image nowhere/job"}
    missed = {
        "jobDeploymentStatus": "Failed",
        "reason": "DeadlineExceeded",
        "rayClusterName": f"{NAME}-abcde",
    }
    start_head(
        fake, f"{NAME}-abcde", "Pending", containerStatuses=[{"state": {"waiting": waiting}}]
    )
    submit_night(wait=False)
    fake.objects.set_status(
        rayjob_place(NAME),
        {"jobDeploymentStatus": "Initializing", "rayClusterName": f"{NAME}-abcde"},
    )
    timer = threading.Timer(1.5, fake.objects.set_status, [rayjob_place(NAME), missed])
    timer.start()
    said = f"pod {NAME}-abcde-head-x7k2p: ImagePullBackOff: Back-off pulling image nowhere/job"
    with pytest.raises(TransientError, match=said):
        submit_night()
    timer.join()
    beats = [
        event for event in events(capsys.readouterr().err) if event["event"] == "submit_heartbeat"
    ]
    assert beats
    assert beats[0]["problem"] == said


@pytest.mark.usefixtures("kubeconfig")
def test_a_cluster_is_opened_in_the_namespace_that_is_named():
    assert Cluster.open().namespace == NAMESPACE
    assert Cluster.open("elsewhere").namespace == "elsewhere"
