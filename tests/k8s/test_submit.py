"""`submit` against a Kubernetes API over HTTP, with the rights that its Role has and no others."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from ray_job import rayjob, settings
from ray_job.bucket import receipts
from ray_job.bucket.directory import DirectoryStorage
from ray_job.bucket.errors import InputError, StorageError, StorecastError
from ray_job.bucket.receipts import Receipt
from ray_job.cluster import Cluster, ClusterError, Pace, TransientError
from ray_job.submit import TERMINATED, submit
from tests.fake_kubernetes.objects import Place
from tests.fake_kubernetes.server import Fault
from tests.k8s.conftest import NAMESPACE

NIGHT = date(2026, 11, 22)
NOW = datetime(2026, 11, 23, 0, 0, 5, tzinfo=UTC)
NAME = "storecast-20261122"
HASTY = Pace(watch=1, retry=0.02, patience=2, heartbeat=0.1)
SUCCEEDED = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
RUNNING = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}


def place(name):
    return Place("rayjobs.ray.io", NAMESPACE, name)


@pytest.fixture
def storage(tmp_path):
    (tmp_path / "bucket").mkdir()
    return DirectoryStorage.open(tmp_path / "bucket")


@pytest.fixture
def hand_in(kubeconfig, storage):
    """Call `submit`; every default may be replaced."""

    def call(**changes):
        given = {"as_of": NIGHT, "wait": True, "adhoc": False, "now": NOW, "pace": HASTY}
        return submit(settings.load(None), storage, **{**given, **changes})

    return call


def leave_receipt(storage, name, exit_code=0, *, run_id="r1", published=True, status="published"):
    receipts.write(
        storage,
        Receipt(
            run_id=run_id,
            status=status,
            exit_code=exit_code,
            as_of=NIGHT,
            release="x",
            published=published,
            submission=name,
            started_at=NOW,
            finished_at=NOW,
            seconds=1.0,
        ),
    )


@pytest.fixture
def operator(fake):
    """What KubeRay does: give each new RayJob statuses, one after the other."""
    threads = []
    done = threading.Event()

    def start(*statuses, before=lambda _name: None):
        seen = rayjobs(fake) | {rayjob.TEMPLATE}

        def work():
            while not done.wait(0.01):
                for found in fake.objects.list("rayjobs.ray.io", NAMESPACE):
                    name = found["metadata"]["name"]
                    if name in seen:
                        continue
                    seen.add(name)
                    before(name)
                    for status in statuses:
                        fake.objects.set_status(place(name), status)

        thread = threading.Thread(target=work)
        thread.start()
        threads.append(thread)

    yield start
    done.set()
    for thread in threads:
        thread.join()


def events(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def rayjobs(fake):
    names = {item["metadata"]["name"] for item in fake.objects.list("rayjobs.ray.io", NAMESPACE)}
    return names - {rayjob.TEMPLATE}


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


def test_two_racing_submitters_make_one_rayjob(hand_in, fake, storage):
    made = threading.Event()

    def operate():
        made.wait(10)
        time.sleep(0.3)
        leave_receipt(storage, NAME)
        fake.objects.set_status(place(NAME), SUCCEEDED)

    with ThreadPoolExecutor(9) as pool:
        operating = pool.submit(operate)
        codes = [pool.submit(hand_in) for _ in range(8)]
        while not rayjobs(fake):
            time.sleep(0.01)
        made.set()
        assert [code.result(20) for code in codes] == [0] * 8
        operating.result()
    assert rayjobs(fake) == {NAME}
    assert sum(request.verb == "create" for request in fake.requests) == 8


def test_a_lost_acknowledgement_makes_one_rayjob(hand_in, fake, storage, operator):
    fake.faults.append(Fault("create", ack_lost=True))
    operator(SUCCEEDED, before=lambda name: leave_receipt(storage, name))
    assert hand_in() == 0
    assert rayjobs(fake) == {NAME}


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429}, {"hang_up": True}])
@pytest.mark.parametrize("verb", ["create", "get", "watch", "list", "delete"])
def test_passing_faults_pass(hand_in, fake, storage, operator, verb, fault):
    fake.faults.append(Fault(verb, times=3, **fault))
    operator(RUNNING, SUCCEEDED, before=lambda name: leave_receipt(storage, name))
    assert hand_in() == 0
    assert rayjobs(fake) == {NAME}


def test_without_any_watch_it_polls(hand_in, fake, storage, operator):
    fake.faults.append(Fault("watch", status=403, times=10**6))
    operator(RUNNING, SUCCEEDED, before=lambda name: leave_receipt(storage, name))
    assert hand_in() == 0


def test_a_forgotten_version_is_asked_for_again(hand_in, fake, storage):
    hand_in(wait=False)
    leave_receipt(storage, NAME)

    def disturb():
        for _ in range(5):
            time.sleep(0.1)
            fake.objects.forget()
        fake.objects.set_status(place(NAME), SUCCEEDED)

    thread = threading.Thread(target=disturb)
    thread.start()
    assert hand_in() == 0
    thread.join()


def test_an_api_that_stays_away_is_transient(hand_in, fake):
    fake.faults.append(Fault("create", status=503, times=10**6))
    with pytest.raises(TransientError, match="503"):
        hand_in(pace=Pace(watch=1, retry=0.02, patience=0.2))


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


def test_a_rayjob_deleted_while_it_runs_is_a_failure(hand_in, fake):
    hand_in(wait=False)
    timer = threading.Timer(0.3, fake.objects.delete, [place(NAME)])
    timer.start()
    with pytest.raises(ClusterError, match="deleted"):
        hand_in()
    timer.join()


def test_a_failed_night_gets_a_new_attempt(hand_in, fake, storage, operator):
    hand_in(wait=False)
    fake.objects.set_status(place(NAME), {"jobDeploymentStatus": "Failed", "reason": "AppFailed"})
    operator(SUCCEEDED, before=lambda name: leave_receipt(storage, name))
    assert hand_in() == 0
    assert rayjobs(fake) == {NAME, f"{NAME}-2"}


def test_a_finished_night_is_not_run_again(hand_in, fake, storage):
    hand_in(wait=False)
    leave_receipt(storage, NAME, 4, status="published_with_failures")
    fake.objects.set_status(place(NAME), SUCCEEDED)
    assert [hand_in(), hand_in()] == [4, 4]
    assert rayjobs(fake) == {NAME}


def test_there_is_a_last_attempt(hand_in, fake):
    for attempt in range(1, rayjob.LAST_ATTEMPT + 1):
        name = rayjob.night_name(NIGHT, attempt)
        fake.objects.create(place(name), {"metadata": {"name": name}})
        fake.objects.set_status(place(name), {"jobDeploymentStatus": "Failed"})
    with pytest.raises(ClusterError, match="have all ended"):
        hand_in()


def test_a_night_that_was_refused_is_run_again_by_force(hand_in, fake, storage, operator):
    hand_in(wait=False)
    leave_receipt(storage, NAME, 3, status="refused", published=False)
    fake.objects.set_status(place(NAME), SUCCEEDED)
    assert hand_in() == 3, "without force it is the same refusal"
    operator(SUCCEEDED, before=lambda name: leave_receipt(storage, name, run_id="r2"))
    assert hand_in(force=True) == 0
    assert rayjobs(fake) == {NAME, f"{NAME}-2"}
    forced = fake.objects.get(place(f"{NAME}-2"))["spec"]["entrypoint"]
    assert forced == "storecast run --ingest --as-of 2026-11-22 --force"


def test_force_waits_for_no_run_that_is_not_forced(hand_in, fake):
    hand_in(wait=False)
    with pytest.raises(InputError, match="runs this night already, not forced"):
        hand_in(force=True)
    assert rayjobs(fake) == {NAME}


def test_a_lost_acknowledgement_of_a_forced_run_is_found(hand_in, fake, storage, operator):
    fake.faults.append(Fault("create", ack_lost=True))
    operator(RUNNING, before=lambda name: leave_receipt(storage, name))
    timer = threading.Timer(0.5, fake.objects.set_status, [place(NAME), SUCCEEDED])
    timer.start()
    assert hand_in(force=True) == 0
    timer.join()
    assert rayjobs(fake) == {NAME}


def test_an_adhoc_run_cannot_be_forced(hand_in, fake):
    with pytest.raises(InputError, match="--adhoc publishes nothing"):
        hand_in(adhoc=True, force=True)
    assert rayjobs(fake) == set()


def test_an_adhoc_run_has_a_rayjob_of_its_own(hand_in, fake, storage, operator):
    operator(
        SUCCEEDED,
        before=lambda name: leave_receipt(storage, name, published=False, status="unpublished"),
    )
    assert hand_in(adhoc=True) == 0
    (name,) = rayjobs(fake)
    assert name.startswith("storecast-adhoc-20261122-000005-")
    assert fake.objects.get(place(name))["spec"]["entrypoint"].endswith("--no-publish")


def test_a_field_that_the_cluster_does_not_know_is_refused(hand_in, fake):
    template = fake.objects.delete(place(rayjob.TEMPLATE))
    template["spec"]["preRunningDeadlineSeconds"] = 900
    fake.objects.create(place(rayjob.TEMPLATE), template)
    with pytest.raises(InputError, match="preRunningDeadlineSeconds"):
        hand_in()


def test_a_cluster_without_the_template_is_told(hand_in, fake):
    fake.objects.delete(place(rayjob.TEMPLATE))
    with pytest.raises(InputError, match="apply k8s/"):
        hand_in()


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (None, "not_submitted"),
        (Fault("create", status=403), "not_submitted"),
        (Fault("create", status=503, times=10**6), "unreachable"),
    ],
)
def test_a_submission_that_came_to_nothing_is_told_like_one_that_failed(
    hand_in, fake, capsys, fault, outcome
):
    """The alert counts this event, so no night may end without it."""
    if fault is None:
        fake.objects.delete(place(rayjob.TEMPLATE))
    else:
        fake.faults.append(fault)
    with pytest.raises(StorecastError):
        hand_in(pace=Pace(watch=1, retry=0.02, patience=0.2))
    (finished,) = (
        event for event in events(capsys.readouterr().err) if event["event"] == "submit_finished"
    )
    assert (finished["severity"], finished["outcome"]) == ("ERROR", outcome)
    assert (finished["as_of"], finished["submission"]) == (str(NIGHT), None)


def test_a_template_without_a_head_is_told(hand_in, fake):
    template = fake.objects.delete(place(rayjob.TEMPLATE))
    del template["spec"]["rayClusterSpec"]["headGroupSpec"]
    fake.objects.create(place(rayjob.TEMPLATE), template)
    with pytest.raises(InputError, match="no container for the head"):
        hand_in()


def test_a_schedule_that_is_no_time_is_told(hand_in, fake, monkeypatch):
    wrong = {"batch.kubernetes.io/cronjob-scheduled-timestamp": "midnight"}
    fake.objects.create(
        Place("jobs.batch", NAMESPACE, "odd"), {"metadata": {"name": "odd", "annotations": wrong}}
    )
    monkeypatch.setenv("STORECAST_JOB_NAME", "odd")
    with pytest.raises(InputError, match="Job odd"):
        hand_in(as_of=None)


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        ({"status": 403}, "403 .*an injected fault"),
        ({"status": 403, "text": "<html>sign in\n first</html>"}, "<html>sign in first</html>"),
        ({"status": 422}, "422 .*an injected fault"),
    ],
)
def test_a_refusal_is_told_in_the_api_s_words(hand_in, fake, fault, match):
    fake.faults.append(Fault("create", **fault))
    with pytest.raises(StorecastError, match=match):
        hand_in()
    assert rayjobs(fake) == set()


def test_an_api_that_goes_away_meanwhile_is_transient(hand_in, fake, capsys):
    hand_in(wait=False)
    fake.faults += [Fault("get", status=503, times=10**6), Fault("watch", status=503, times=10**6)]
    fake.objects.set_status(place(NAME), RUNNING)
    template = fake.objects.get(place(rayjob.TEMPLATE))

    class Remembering(Cluster):
        def template(self):
            return template

    opened = Cluster.open()
    cluster = Remembering(opened.namespace, opened.rayjobs, opened.batch, opened.core)
    with pytest.raises(TransientError, match="503"):
        hand_in(cluster=cluster, adhoc=True, pace=Pace(watch=1, retry=0.02, patience=0.3))
    assert events(capsys.readouterr().err)[-1]["outcome"] == "unreachable"


def test_a_rayjob_that_is_deleted_between_two_requests_is_made_again(hand_in, fake):
    hand_in(wait=False)
    fake.objects.set_status(place(NAME), {"jobDeploymentStatus": "Failed"})
    real, calls = fake.objects.get, []

    def get(where):
        if where == place(NAME) and not calls:
            calls.append(fake.objects.delete(where))
        return real(where)

    fake.objects.get = get
    assert hand_in(wait=False) == 0
    assert rayjobs(fake) == {NAME}
    assert "status" not in real(place(NAME))


@pytest.mark.parametrize("status", [403, 503])
def test_pruning_that_fails_fails_no_night(hand_in, fake, storage, operator, capsys, status):
    old = {"labels": rayjob.MANAGED_BY, "creationTimestamp": "2026-01-01T00:00:00Z"}
    fake.objects.create(place("old"), {"metadata": old, "status": SUCCEEDED})
    fake.faults.append(Fault("delete", status=status))
    operator(SUCCEEDED, before=lambda name: leave_receipt(storage, name))
    assert hand_in() == 0
    assert "submit_prune_failed" in {event["event"] for event in events(capsys.readouterr().err)}
    assert "old" in rayjobs(fake)


def test_pruning_what_is_gone_is_no_failure(kubeconfig):
    assert kubeconfig.exists()
    Cluster.open().delete("gone")


@pytest.mark.usefixtures("kubeconfig")
def test_a_bucket_that_cannot_be_read_is_transient(fake, operator):
    class Away:
        def list(self, prefix):
            raise StorageError(f"{prefix}: the storage does not answer")

    operator(SUCCEEDED)
    with pytest.raises(TransientError, match="does not answer"):
        submit(
            settings.load(None), Away(), as_of=NIGHT, wait=True, adhoc=False, now=NOW, pace=HASTY
        )
    assert rayjobs(fake) == {NAME}


def test_no_cluster_at_all_is_told(hand_in, monkeypatch, tmp_path):
    nowhere = str(tmp_path / "nowhere")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", nowhere)
    with pytest.raises(InputError, match="no Kubernetes cluster"):
        hand_in()


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


def start_pod(fake):
    pod = {
        "metadata": {"name": "submitter-pod", "labels": {"job-name": NAME}},
        "spec": {"containers": [{"name": "ray-job-submitter"}]},
        "status": {"phase": "Running"},
    }
    fake.objects.create(Place("pods", NAMESPACE, "submitter-pod"), pod)


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
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_submitter_leaves_the_rayjob_and_the_next_attaches(fake, storage, how):
    def start():
        return subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "submitter.py"), storage.url, str(NIGHT)],
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
        leave_receipt(storage, NAME, 4)
        fake.objects.set_status(place(NAME), SUCCEEDED)
        output, errors = second.communicate(timeout=20)
    assert (second.returncode, output) == (4, "4\n"), errors
    assert events(errors)[0]["attached"] is True
    assert rayjobs(fake) == {NAME}


@pytest.mark.usefixtures("kubeconfig")
def test_a_cluster_is_opened_in_the_namespace_that_is_named():
    assert Cluster.open().namespace == NAMESPACE
    assert Cluster.open("elsewhere").namespace == "elsewhere"
