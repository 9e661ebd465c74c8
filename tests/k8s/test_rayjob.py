"""RayJobs as data: names, the night of a schedule, the end of a status, pruning."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ray_job.submit import rayjob
from tests.k8s.support import kuberay
from tests.k8s.support.command_line import parse
from tests.k8s.support.manifests import TEMPLATE

NIGHT = date(2026, 11, 23)


def _with(**status):
    return {"metadata": {"name": "storecast-20261123"}, "status": status}


def test_the_name_follows_from_the_as_of():
    assert rayjob.night_name(NIGHT) == "storecast-20261123"
    assert rayjob.night_name(NIGHT, 2) == "storecast-20261123-2"
    moment = datetime(2026, 11, 24, 9, 15, 2, tzinfo=UTC)
    assert rayjob.adhoc_name(NIGHT, moment, "x7k2") == "storecast-adhoc-20261123-091502-x7k2"


@given(st.dates(date(1000, 1, 1)), st.integers(1, rayjob.LAST_ATTEMPT), st.times())
def test_names_fit_kuberay(as_of, attempt, at):
    moment = datetime.combine(as_of, at, UTC)
    for name in (rayjob.night_name(as_of, attempt), rayjob.adhoc_name(as_of, moment, "zzzz")):
        assert len(name) <= rayjob.LONGEST_NAME
        assert name.replace("-", "").isalnum()
        assert name == name.lower()


@pytest.mark.parametrize(
    ("scheduled", "zone", "as_of"),
    [
        ("2026-11-24T00:00:00Z", "UTC", date(2026, 11, 23)),
        ("2026-11-23T23:00:00Z", "Europe/Berlin", date(2026, 11, 23)),
        ("2026-11-24T00:00:00+01:00", "Europe/Berlin", date(2026, 11, 23)),
        ("2026-03-28T23:00:00Z", "Europe/Berlin", date(2026, 3, 28)),
        ("2026-03-29T22:00:00Z", "Europe/Berlin", date(2026, 3, 29)),
        ("2026-11-24T08:00:00Z", "America/Los_Angeles", date(2026, 11, 23)),
        ("2026-11-23T10:00:00Z", "Pacific/Kiritimati", date(2026, 11, 23)),
    ],
)
def test_the_night_of_a_schedule_is_the_day_before_in_its_zone(scheduled, zone, as_of):
    assert rayjob.night_of_schedule(scheduled, ZoneInfo(zone)) == as_of


@pytest.mark.parametrize("text", ["", "midnight", "2026-11-24T00:00:00"])
def test_a_schedule_without_a_moment_is_refused(text):
    with pytest.raises(ValueError, match=r"isoformat|offset"):
        rayjob.night_of_schedule(text, ZoneInfo("UTC"))


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, "succeeded"),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}, "stopped"),
        ({"jobDeploymentStatus": "Failed", "jobStatus": "STOPPED"}, "stopped"),
        ({"jobDeploymentStatus": "ValidationFailed"}, "invalid"),
        ({"jobDeploymentStatus": "Failed", "reason": "ValidationFailed"}, "invalid"),
        ({"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"}, "deadline"),
        ({"jobDeploymentStatus": "Failed", "reason": "PreRunningDeadlineExceeded"}, "not_started"),
        ({"jobDeploymentStatus": "Failed", "reason": "SubmissionFailed"}, "head_lost"),
        (
            {
                "jobDeploymentStatus": "Failed",
                "jobStatus": "FAILED",
                "reason": "AppFailed",
                "message": "Job entrypoint command failed with exit code 1",
            },
            "driver_failed",
        ),
        (
            {
                "jobDeploymentStatus": "Failed",
                "jobStatus": "FAILED",
                "reason": "AppFailed",
                "message": "Unexpected error occurred: The actor died unexpectedly",
            },
            "head_lost",
        ),
        (
            {
                "jobDeploymentStatus": "Failed",
                "reason": "AppFailed",
                "rayClusterStatus": {"conditions": [{"type": "HeadPodReady", "status": "False"}]},
            },
            "head_lost",
        ),
        # The head came back in the same RayCluster, and the new one knows no job.
        (
            {
                "jobDeploymentStatus": "Failed",
                "jobStatus": "RUNNING",
                "reason": "AppFailed",
                "message": "Submitter completed but Ray job not found in RayCluster.",
            },
            "head_lost",
        ),
    ],
)
def test_ends_are_told_apart(status, reason):
    end = rayjob.end(_with(**status))
    assert end is not None
    assert end.reason == reason
    assert end.transient == (reason in {"deadline", "head_lost", "not_started"})
    assert "storecast-20261123" in end.sentence("storecast-20261123")


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"jobDeploymentStatus": "Initializing"},
        {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"},
        # Ray has finished, KubeRay not yet.
        {"jobDeploymentStatus": "Running", "jobStatus": "SUCCEEDED"},
        # The operator is about to make a second cluster.
        {"jobDeploymentStatus": "Retrying", "jobStatus": "FAILED"},
        {"jobDeploymentStatus": "Suspended"},
    ],
)
def test_what_may_go_on_has_no_end(status):
    assert rayjob.end(_with(**status)) is None


@pytest.mark.parametrize(
    ("how", "command"),
    [
        ({"adhoc": False}, "storecast run --ingest --as-of 2026-11-23"),
        ({"adhoc": False, "force": True}, "storecast run --ingest --as-of 2026-11-23 --force"),
        ({"adhoc": True}, "storecast run --as-of 2026-11-23 --no-publish"),
    ],
)
def test_the_driver_s_command_is_one_of_the_command_line(how, command):
    assert rayjob.entrypoint(NIGHT, **how) == command
    parse(command.split())


@pytest.mark.parametrize("release", kuberay.RELEASES)
@pytest.mark.parametrize("adhoc", [False, True])
def test_a_rayjob_of_the_template_is_accepted(release, adhoc):
    resource = rayjob.build(
        yaml.safe_load(TEMPLATE.read_text()),
        "storecast-20261123",
        NIGHT,
        entrypoint="storecast run",
        adhoc=adhoc,
    )
    assert kuberay.problems(resource, release) == []
    assert "suspend" not in resource["spec"]
    assert resource["metadata"]["labels"]["storecast/as-of"] == "2026-11-23"
    head = resource["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert head["env"] == [{"name": "STORECAST_SUBMISSION", "value": "storecast-20261123"}]
    assert resource["spec"]["entrypoint"] == "storecast run"


def test_a_template_without_a_head_is_refused():
    with pytest.raises(ValueError, match="no container for the head"):
        rayjob.build({"metadata": {}, "spec": {}}, "x", NIGHT, entrypoint="true", adhoc=False)


def test_only_old_finished_rayjobs_of_ours_are_pruned():
    now = datetime(2026, 11, 24, tzinfo=UTC)

    def aged(name, days, labels, **status):
        created = (now - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata = {"name": name, "labels": labels, "creationTimestamp": created}
        return {"metadata": metadata, "status": status}

    succeeded = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
    rayjobs = [
        aged("old", 15, rayjob.MANAGED_BY, **succeeded),
        aged("failed", 15, rayjob.MANAGED_BY, jobDeploymentStatus="Failed"),
        aged("young", 13, rayjob.MANAGED_BY, **succeeded),
        aged("running", 15, rayjob.MANAGED_BY, jobDeploymentStatus="Running"),
        aged("foreign", 15, {"app": "else"}, **succeeded),
        aged("unlabelled", 15, None, **succeeded),
    ]
    assert rayjob.prunable(rayjobs, now) == ["old", "failed"]
