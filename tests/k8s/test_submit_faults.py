"""Faults that pass are waited for; refusals are one sentence; every end has its event."""

import threading
import time

import pytest

from ray_job import settings
from ray_job.bucket.errors import InputError, StorageError, StorecastError, TransientError
from ray_job.submit import rayjob, submit
from ray_job.submit.cluster import Cluster, Pace
from tests.fake_kubernetes.objects import Place
from tests.fake_kubernetes.server import Fault
from tests.k8s.support.submissions import (
    FAST,
    NAME,
    NAMESPACE,
    NIGHT,
    NOW,
    RUNNING,
    SUCCEEDED,
    events,
    leave_receipt,
    rayjob_place,
    rayjobs,
)


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429}, {"hang_up": True}])
@pytest.mark.parametrize("verb", ["create", "get", "watch", "list", "delete"])
def test_passing_faults_pass(submit_night, fake, receipt_storage, operator, verb, fault):
    fake.faults.append(Fault(verb, times=3, **fault))
    operator(RUNNING, SUCCEEDED, before=lambda name: leave_receipt(receipt_storage, name))
    assert submit_night() == 0
    assert rayjobs(fake) == {NAME}


def test_without_any_watch_it_polls(submit_night, fake, receipt_storage, operator):
    fake.faults.append(Fault("watch", status=403, times=10**6))
    operator(RUNNING, SUCCEEDED, before=lambda name: leave_receipt(receipt_storage, name))
    assert submit_night() == 0


def test_a_forgotten_version_is_asked_for_again(submit_night, fake, receipt_storage):
    submit_night(wait=False)
    leave_receipt(receipt_storage, NAME)

    def disturb():
        for _ in range(5):
            time.sleep(0.1)
            fake.objects.forget()
        fake.objects.set_status(rayjob_place(NAME), SUCCEEDED)

    thread = threading.Thread(target=disturb)
    thread.start()
    assert submit_night() == 0
    thread.join()


def test_an_api_that_stays_away_is_transient(submit_night, fake):
    fake.faults.append(Fault("create", status=503, times=10**6))
    with pytest.raises(TransientError, match="503"):
        submit_night(pace=Pace(watch=1, retry=0.02, patience=0.2))


def test_an_api_that_goes_away_meanwhile_is_transient(submit_night, fake, capsys):
    submit_night(wait=False)
    fake.faults += [Fault("get", status=503, times=10**6), Fault("watch", status=503, times=10**6)]
    fake.objects.set_status(rayjob_place(NAME), RUNNING)
    template = fake.objects.get(rayjob_place(rayjob.TEMPLATE))

    class Remembering(Cluster):
        def template(self):
            return template

    opened = Cluster.open()
    cluster = Remembering(opened.namespace, opened.rayjobs, opened.batch, opened.core)
    with pytest.raises(TransientError, match="503"):
        submit_night(cluster=cluster, adhoc=True, pace=Pace(watch=1, retry=0.02, patience=0.3))
    assert events(capsys.readouterr().err)[-1]["outcome"] == "unreachable"


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        ({"status": 403}, "403 .*an injected fault"),
        ({"status": 403, "text": "<html>sign in\n first</html>"}, "<html>sign in first</html>"),
        ({"status": 422}, "422 .*an injected fault"),
    ],
)
def test_a_refusal_is_told_in_the_api_s_words(submit_night, fake, fault, match):
    fake.faults.append(Fault("create", **fault))
    with pytest.raises(StorecastError, match=match):
        submit_night()
    assert rayjobs(fake) == set()


def test_a_field_that_the_cluster_does_not_know_is_refused(submit_night, fake):
    template = fake.objects.delete(rayjob_place(rayjob.TEMPLATE))
    template["spec"]["preRunningDeadlineSeconds"] = 900
    fake.objects.create(rayjob_place(rayjob.TEMPLATE), template)
    with pytest.raises(InputError, match="preRunningDeadlineSeconds"):
        submit_night()


def test_a_cluster_without_the_template_is_told(submit_night, fake):
    fake.objects.delete(rayjob_place(rayjob.TEMPLATE))
    with pytest.raises(InputError, match="apply k8s/"):
        submit_night()


def test_a_cluster_without_kuberay_is_told(submit_night, fake):
    """The API server answers so for a group that no custom resource definition has."""
    fake.faults.append(Fault("get", status=404, text="404 page not found\n"))
    with pytest.raises(InputError, match="install KubeRay's operator"):
        submit_night()


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (None, "not_submitted"),
        (Fault("create", status=403), "not_submitted"),
        (Fault("create", status=503, times=10**6), "unreachable"),
    ],
)
def test_a_submission_that_came_to_nothing_is_told_like_one_that_failed(
    submit_night, fake, capsys, fault, outcome
):
    """The alert counts this event, so no night may end without it."""
    if fault is None:
        fake.objects.delete(rayjob_place(rayjob.TEMPLATE))
    else:
        fake.faults.append(fault)
    with pytest.raises(StorecastError):
        submit_night(pace=Pace(watch=1, retry=0.02, patience=0.2))
    (finished,) = (
        event for event in events(capsys.readouterr().err) if event["event"] == "submit_finished"
    )
    assert (finished["severity"], finished["outcome"]) == ("ERROR", outcome)
    assert (finished["as_of"], finished["submission"]) == (str(NIGHT), None)


def test_a_template_without_a_head_is_told(submit_night, fake):
    template = fake.objects.delete(rayjob_place(rayjob.TEMPLATE))
    del template["spec"]["rayClusterSpec"]["headGroupSpec"]
    fake.objects.create(rayjob_place(rayjob.TEMPLATE), template)
    with pytest.raises(InputError, match="no container for the head"):
        submit_night()


def test_a_schedule_that_is_no_time_is_told(submit_night, fake, monkeypatch):
    wrong = {"batch.kubernetes.io/cronjob-scheduled-timestamp": "midnight"}
    fake.objects.create(
        Place("jobs.batch", NAMESPACE, "odd"), {"metadata": {"name": "odd", "annotations": wrong}}
    )
    monkeypatch.setenv("STORECAST_JOB_NAME", "odd")
    with pytest.raises(InputError, match="Job odd"):
        submit_night(as_of=None)


@pytest.mark.parametrize("status", [403, 503])
def test_pruning_that_fails_fails_no_night(
    submit_night, fake, receipt_storage, operator, capsys, status
):
    old = {"labels": rayjob.MANAGED_BY, "creationTimestamp": "2026-01-01T00:00:00Z"}
    fake.objects.create(rayjob_place("old"), {"metadata": old, "status": SUCCEEDED})
    fake.faults.append(Fault("delete", status=status))
    operator(SUCCEEDED, before=lambda name: leave_receipt(receipt_storage, name))
    assert submit_night() == 0
    assert "submit_prune_failed" in {event["event"] for event in events(capsys.readouterr().err)}
    assert "old" in rayjobs(fake)


def test_pruning_what_is_gone_is_no_failure(kubeconfig):
    assert kubeconfig.exists()
    Cluster.open().delete("gone")


@pytest.mark.usefixtures("kubeconfig")
def test_a_bucket_that_cannot_be_read_is_transient(fake, operator):
    class UnreadableStorage:
        def list(self, prefix):
            raise StorageError(f"{prefix}: the storage does not answer")

    operator(SUCCEEDED)
    with pytest.raises(TransientError, match="does not answer"):
        submit(
            settings.load(None),
            UnreadableStorage,
            as_of=NIGHT,
            wait=True,
            adhoc=False,
            now=NOW,
            pace=FAST,
        )
    assert rayjobs(fake) == {NAME}


@pytest.mark.usefixtures("kubeconfig")
def test_a_bucket_that_cannot_be_opened_keeps_no_run_back(fake, operator, receipt_storage):
    opened = []

    def open_storage():
        """It does not answer when the submitter starts."""
        opened.append(rayjobs(fake))
        if len(opened) == 1:
            raise StorageError("gs://shop: the storage did not answer in time: it answers 503")
        return receipt_storage

    leave_receipt(receipt_storage, NAME)
    operator(SUCCEEDED)
    code = submit(
        settings.load(None), open_storage, as_of=NIGHT, wait=True, adhoc=False, now=NOW, pace=FAST
    )
    assert code == 0
    assert opened == [set(), {NAME}]


def test_no_cluster_at_all_is_told(submit_night, monkeypatch, tmp_path):
    nowhere = str(tmp_path / "nowhere")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", nowhere)
    with pytest.raises(InputError, match="no Kubernetes cluster"):
        submit_night()
