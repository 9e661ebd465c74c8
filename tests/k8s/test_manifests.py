"""Each manifest alone: the overlays build, and clusters of several releases accept them."""

from datetime import date
from zoneinfo import ZoneInfo

import kubernetes_validate
import pytest
from kubernetes_validate import utils

from k8s.gcp import schedules
from tests.k8s.support import kuberay
from tests.k8s.support.manifests import OVERLAYS, built, of_kind

_NUMBERS = {tuple(map(int, version.split(".")[:2])) for version in utils.all_versions()}
RELEASES = tuple(
    f"{major}.{minor}" for major, minor in sorted(_NUMBERS) if (major, minor) >= (1, 33)
)
RAY = {"RayJob", "RayCluster"}
WITHOUT_SCHEMA = {
    "Gateway",
    "HTTPRoute",
    "GCPBackendPolicy",
    "HealthCheckPolicy",
    "PodMonitoring",
    "Rules",
}
"""Custom resources of GKE, whose schemas nobody publishes on their own; setup applies them with the
server's validation, and test_together.py checks the fields that are used."""
NEWER = "prod-kuberay-1.6"


def test_the_releases_are_there():
    assert "1.33" in RELEASES
    assert len(RELEASES) > 1


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_accepts_them_strictly(overlay, release):
    for resource in built(overlay):
        if resource["kind"] not in RAY | WITHOUT_SCHEMA:
            kubernetes_validate.validate(resource, release, strict=True)


ACCEPTING = [
    (overlay, release)
    for overlay in OVERLAYS
    for release in kuberay.RELEASES
    if (overlay, release) != (NEWER, "v1.5.1")
]


@pytest.mark.parametrize(("overlay", "release"), ACCEPTING)
def test_kuberay_accepts_them_strictly(overlay, release):
    for resource in built(overlay):
        if resource["kind"] in RAY:
            assert kuberay.problems(resource, release) == []


def test_what_is_newer_than_kuberay_1_5_is_refused_there():
    template = of_kind(NEWER, "RayJob")["storecast-template"]
    (problem,) = kuberay.problems(template, "v1.5.1")
    assert "preRunningDeadlineSeconds" in problem


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_schedules_are_valid_and_their_zone_is_the_settings_one(overlay):
    settings = of_kind(overlay, "ConfigMap")["storecast-settings"]["data"]
    for name, cron in of_kind(overlay, "CronJob").items():
        schedules.parse(cron["spec"]["schedule"])
        assert cron["spec"]["timeZone"] == settings["STORECAST_TIME_ZONE"], name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_night_lacks_its_minute(overlay):
    spec = of_kind(overlay, "CronJob")["storecast-nightly"]["spec"]
    zone = ZoneInfo(spec["timeZone"])
    assert schedules.skipped_nights(spec["schedule"], zone, date(2026, 1, 1)) == []


@pytest.mark.parametrize("zone", ["Africa/Cairo", "Asia/Beirut", "America/Havana"])
def test_a_zone_that_skips_midnight_would_be_refused(zone):
    skipped = schedules.skipped_nights("0 0 * * *", ZoneInfo(zone), date(2026, 1, 1))
    assert 9 <= len(skipped) <= 11
    assert schedules.skipped_nights("30 2 * * *", ZoneInfo(zone), date(2026, 1, 1)) == []


@pytest.mark.parametrize(
    "text", ["0 0 * *", "60 0 * * *", "0 24 * * *", "a 0 * * *", "0 5-1 * * *"]
)
def test_what_is_no_cron_expression_is_refused(text):
    with pytest.raises(ValueError, match=r"field|within|invalid literal"):
        schedules.parse(text)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_cronjobs_neither_overlap_nor_pile_up(overlay):
    for name, cron in of_kind(overlay, "CronJob").items():
        spec = cron["spec"]
        assert spec["concurrencyPolicy"] == "Forbid", name
        assert spec["startingDeadlineSeconds"] > 0
        assert spec["successfulJobsHistoryLimit"] <= 3
        assert spec["failedJobsHistoryLimit"] <= 7
        assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] > 0
        assert len(name) <= 52


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_what_is_transient_is_tried_again(overlay):
    job = of_kind(overlay, "CronJob")["storecast-nightly"]["spec"]["jobTemplate"]["spec"]
    ignore, fail = job["podFailurePolicy"]["rules"]
    assert ignore["action"] == "Ignore"
    assert ignore["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert fail["action"] == "FailJob"
    assert fail["onExitCodes"]["operator"] == "NotIn"
    assert set(fail["onExitCodes"]["values"]) == {75, 137, 143}
    assert job["backoffLimit"] > 0
