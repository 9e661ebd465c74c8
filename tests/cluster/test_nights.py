"""Nights that nothing disturbs: two submitters, the end of the cluster; and no KubeRay at all."""

from datetime import UTC, datetime, timedelta

import pytest

from ray_job import settings
from ray_job.submit import submit
from ray_job.submit.cluster import SCHEDULED_AT
from ray_job.submit.rayjob import KEPT
from tests.cluster import inside, nightly_job, objects, project
from tests.cluster.control_plane import kubectl
from tests.cluster.nightly_job import RAYJOB
from tests.cluster.places import BIN, NAMESPACE
from tests.cluster.processes import succeeds, wait_until
from tests.k8s.support.nights import YESTERDAY


def test_two_submitters_make_one_night(clean_night, published_receipts):
    nights = [nightly_job.start(name) for name in ("first", "second")]
    for night in nights:
        nightly_job.finish(night)
        assert (night.condition, night.exit_codes) == ("Complete", [0]), night.log
    assert objects.names("rayjobs") == {RAYJOB, "storecast-template"}
    assert len(published_receipts()) == 1
    started = [
        event["attached"]
        for night in nights
        for event in night.events
        if event["event"] == "submit_started"
    ]
    assert sorted(started) == [False, True]


def test_the_cluster_of_a_night_goes_and_its_status_stays(clean_night, monkeypatch):
    night = nightly_job.finish(nightly_job.start())
    assert night.exit_codes == [0], night.log
    rayjob = objects.get("rayjob", RAYJOB)
    cluster = rayjob["status"]["rayClusterName"]
    assert objects.get("raycluster", cluster) is not None
    assert rayjob["spec"]["ttlSecondsAfterFinished"] == 120
    objects.patch("rayjob", RAYJOB, {"spec": {"ttlSecondsAfterFinished": 10}})
    wait_until(300, "the cluster's end", lambda: objects.get("raycluster", cluster) is None, 2)
    pods = f"ray.io/cluster={cluster}"
    wait_until(120, "the pods' end", lambda: not objects.names("pods", pods), 2)
    assert objects.get("rayjob", RAYJOB)["status"]["jobStatus"] == "SUCCEEDED"
    # Two weeks later its status goes, too, when a submitter has ended.
    later = datetime.now(UTC) + KEPT + timedelta(hours=1)
    monkeypatch.setenv("STORECAST_NAMESPACE", NAMESPACE)
    code = submit(
        settings.load(None), lambda: clean_night, as_of=YESTERDAY, wait=True, adhoc=False, now=later
    )
    assert code == 0
    wait_until(60, "the RayJob's end", lambda: objects.get("rayjob", RAYJOB) is None, 1)
    assert objects.get("rayjob", "storecast-template") is not None


def test_an_evicted_submitter_is_no_failure_of_its_job(clean_night, published_receipts):
    """podFailurePolicy ignores disruptions: they count against no limit of retries."""
    night = nightly_job.start()
    nightly_job.wait_for_phase("head")
    (submitter,) = nightly_job.pods(night)
    objects.evict(submitter["metadata"]["name"])
    nightly_job.finish(night)
    assert (night.condition, night.exit_codes[-1]) == ("Complete", 0), night.log
    assert not objects.get("job", night.name)["status"].get("failed")
    assert len(published_receipts()) == 1


def test_a_lost_head_comes_back_in_the_same_cluster(clean_night, published_receipts):
    """KubeRay 1.5 makes no head where the cluster was ready once: a second cluster publishes."""
    night = nightly_job.start()
    nightly_job.wait_for_phase("driver")
    status = objects.get("rayjob", RAYJOB)["status"]
    (head,) = nightly_job.head_pods(status)
    objects.kill(head["metadata"]["name"])
    nightly_job.finish(night)
    assert (night.condition, night.exit_codes) == ("Complete", [0]), night.log
    assert len(published_receipts()) == 1
    last = objects.get("rayjob", RAYJOB)["status"]["rayClusterName"]
    assert (last == status["rayClusterName"]) != inside.kuberay().startswith("1.5.")


def test_the_hourly_job_of_a_fresh_installation_has_nothing_to_do(clean_night):
    hour = nightly_job.finish(nightly_job.start("hour", cron_job="storecast-hourly"))
    assert (hour.condition, hour.exit_codes) == ("Complete", [0]), hour.log


def test_the_template_itself_never_starts(set_up):
    status = objects.get("rayjob", "storecast-template")["status"]
    assert not status.get("jobStatus")
    pods = objects.names("pods", "ray.io/cluster")
    assert not any(name.startswith("storecast-template") for name in pods)


@pytest.mark.parametrize(
    ("scheduled", "as_of"),
    [
        ("2026-11-20T23:00:00Z", "20261120"),
        # The night in which clocks in Berlin go forward begins at UTC+1, the next one at UTC+2.
        ("2026-03-28T23:00:00Z", "20260328"),
        ("2026-03-29T22:00:00Z", "20260329"),
        # They go back.
        ("2026-10-24T22:00:00Z", "20261024"),
        ("2026-10-25T23:00:00Z", "20261025"),
    ],
)
def test_the_night_follows_from_the_annotation_of_the_job(clean_night, scheduled, as_of):
    """As the CronJob's controller writes it; the API server keeps it as it is."""

    def schedule(job):
        job["metadata"]["annotations"] = {SCHEDULED_AT: scheduled}
        job["spec"]["suspend"] = True

    nightly_job.start("scheduled", change=schedule)
    result = nightly_job.submit_here(
        STORECAST_JOB_NAME="scheduled", STORECAST_TIME_ZONE="Europe/Berlin"
    )
    assert result.returncode == 0, result.stderr
    assert objects.names("rayjobs") == {f"storecast-{as_of}", "storecast-template"}


@pytest.fixture
def without_kuberay(clean_night):
    """The custom resource definitions of KubeRay are gone, and with them every RayJob."""
    definitions = BIN / f"crds-{inside.kuberay()}"
    objects.call("delete", "--filename", definitions, "--timeout=100s")
    yield
    inside.kubectl("apply", "--server-side", "--filename", definitions)
    ready = kubectl("wait", "--for=condition=Established", "crd/rayjobs.ray.io", "--timeout=1s")
    wait_until(60, "KubeRay's definitions", lambda: succeeds(*ready))
    applied = project.apply(project.write_overlay(inside.overlay()))
    assert applied.returncode == 0, applied.stderr
    nightly_job.suspend_schedules()


def test_a_cluster_without_kuberay_is_told(without_kuberay):
    result = nightly_job.submit_here("--wait", STORECAST_NAMESPACE=NAMESPACE)
    assert result.returncode == 2
    assert "install KubeRay's operator" in result.stderr
    applied = project.apply(project.write_overlay(inside.overlay()))
    assert applied.returncode != 0
    # kubectl names the kind, or the path of one that it knew a moment ago.
    assert "rayjob" in applied.stderr.lower()
