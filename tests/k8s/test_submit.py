"""`submit` against a Kubernetes API over HTTP, with the rights that its Role has and no others."""

import threading
import time
from datetime import date

import pytest

from ray_job import settings
from ray_job.bucket.errors import InputError, TransientError
from ray_job.submit import rayjob, submit
from ray_job.submit.cluster import Cluster, ClusterError
from tests.fake_kubernetes.objects import Place
from tests.k8s.submitting import (
    NAME,
    NAMESPACE,
    NIGHT,
    NOW,
    RUNNING,
    SUCCEEDED,
    events,
    leave_receipt,
    place,
    rayjobs,
    start_pod,
)


@pytest.mark.parametrize("exit_code", [0, 3, 4])
def test_the_receipt_decides_the_exit_code(hand_in, fake, storage, operator, capsys, exit_code):
    operator(RUNNING, SUCCEEDED, before=lambda name: leave_receipt(storage, name, exit_code))
    assert hand_in() == exit_code
    assert rayjobs(fake) == {NAME}
    started, *_, finished = events(capsys.readouterr().err)
    assert (started["event"], started["submission"]) == ("submit_started", NAME)
    assert started["attached"] is False
    assert (finished["event"], finished["outcome"]) == ("submit_finished", "published")
    assert finished["exit_code"] == exit_code


def test_without_wait_it_only_creates(hand_in, fake):
    assert hand_in(wait=False) == 0
    assert rayjobs(fake) == {NAME}


@pytest.mark.usefixtures("kubeconfig")
def test_waiting_needs_the_bucket():
    with pytest.raises(InputError, match="needs the bucket"):
        submit(settings.load(None), None, as_of=NIGHT, wait=True, adhoc=False, now=NOW)


def test_a_run_that_found_all_done_answers_with_the_night_s_receipt(hand_in, storage, operator):
    leave_receipt(storage, "storecast-hourly", 4)
    operator(SUCCEEDED)
    assert hand_in() == 4


def test_no_receipt_is_a_failure(hand_in, operator):
    operator(SUCCEEDED)
    with pytest.raises(ClusterError, match="left no receipt"):
        hand_in()


def test_the_as_of_is_the_day_before_the_schedule(hand_in, fake, monkeypatch):
    scheduled = {"batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-11-21T00:00:00Z"}
    fake.objects.create(
        Place("jobs.batch", NAMESPACE, "storecast-nightly-1"),
        {"metadata": {"name": "storecast-nightly-1", "annotations": scheduled}},
    )
    monkeypatch.setenv("STORECAST_JOB_NAME", "storecast-nightly-1")
    assert hand_in(as_of=None, wait=False) == 0
    assert rayjobs(fake) == {"storecast-20261120"}


def test_a_job_made_by_hand_has_no_schedule_and_means_yesterday(hand_in, fake, monkeypatch):
    fake.objects.create(
        Place("jobs.batch", NAMESPACE, "by-hand"), {"metadata": {"name": "by-hand"}}
    )
    monkeypatch.setenv("STORECAST_JOB_NAME", "by-hand")
    assert hand_in(as_of=None, wait=False) == 0
    assert rayjobs(fake) == {NAME}


def test_an_as_of_later_than_yesterday_is_refused(hand_in, fake):
    with pytest.raises(InputError, match="2026-11-23 is later than yesterday"):
        hand_in(as_of=date(2026, 11, 23))
    assert rayjobs(fake) == set()


@pytest.mark.parametrize(
    ("status", "error", "match"),
    [
        ({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}, ClusterError, "stopped"),
        ({"jobDeploymentStatus": "ValidationFailed", "message": "no"}, InputError, "invalid: no"),
        (
            {"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"},
            ClusterError,
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
def test_failures_are_told_apart(hand_in, operator, capsys, status, error, match):
    operator(RUNNING, status)
    with pytest.raises(error, match=match):
        hand_in()
    finished = events(capsys.readouterr().err)[-1]
    assert finished["severity"] == "ERROR"
    assert finished["outcome"] not in {"published", "unknown"}


def test_the_role_is_what_is_needed_and_no_more(hand_in, fake, storage, operator, monkeypatch):
    old = {"labels": rayjob.MANAGED_BY, "creationTimestamp": "2026-01-01T00:00:00Z"}
    fake.objects.create(place("old"), {"metadata": old, "status": SUCCEEDED})
    fake.objects.create(
        Place("jobs.batch", NAMESPACE, "by-hand"), {"metadata": {"name": "by-hand"}}
    )
    monkeypatch.setenv("STORECAST_JOB_NAME", "by-hand")
    start_pod(fake)
    fake.objects.write_log("submitter-pod", "hello", close=True)

    def work(name):
        leave_receipt(storage, name)
        time.sleep(0.5)

    operator(SUCCEEDED, before=work)
    assert hand_in(as_of=None) == 0
    assert rayjobs(fake) == {NAME}
    used = {(item.group, item.resource, item.verb) for item in fake.requests}
    granted = {
        (group, resource, verb)
        for rule in fake.rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert used == granted


def test_the_driver_s_lines_pass_through_once(hand_in, fake, storage, capsys):
    start_pod(fake)
    hand_in(wait=False)
    leave_receipt(storage, NAME)

    def drive():
        fake.objects.write_log("submitter-pod", "first", "second")
        time.sleep(0.4)
        fake.objects.write_log("submitter-pod", "last", close=True)
        fake.objects.set_status(place(NAME), SUCCEEDED)

    thread = threading.Thread(target=drive)
    thread.start()
    assert hand_in() == 0
    thread.join()
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if not line.startswith("{")] == ["first", "second", "last"]


def test_a_hung_driver_is_seen_by_its_heartbeats(hand_in, fake, storage, capsys):
    hand_in(wait=False)
    leave_receipt(storage, NAME)
    fake.objects.set_status(place(NAME), RUNNING)
    timer = threading.Timer(2.5, fake.objects.set_status, [place(NAME), SUCCEEDED])
    timer.start()
    assert hand_in() == 0
    timer.join()
    beats = [
        event for event in events(capsys.readouterr().err) if event["event"] == "submit_heartbeat"
    ]
    assert beats
    assert beats[0]["phase"] == "Running/RUNNING"
    assert beats[0]["submission"] == NAME


@pytest.mark.usefixtures("kubeconfig")
def test_a_cluster_is_opened_in_the_namespace_that_is_named():
    assert Cluster.open().namespace == NAMESPACE
    assert Cluster.open("elsewhere").namespace == "elsewhere"
