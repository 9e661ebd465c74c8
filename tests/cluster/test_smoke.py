"""The shortest proof of the chain: set-up three times, a night of the schedule, a lost worker."""

import json
from datetime import UTC, datetime, timedelta

from tests.cluster import inside, nightly_job, objects, project
from tests.cluster.processes import wait_until
from tests.k8s.support.nights import YESTERDAY


def audiences():
    """What the settings of the API's newest pods name."""
    deployment = objects.get("deployment", "storecast-api")
    (source,) = deployment["spec"]["template"]["spec"]["containers"][0]["envFrom"]
    settings = objects.get("configmap", source["configMapRef"]["name"])["data"]
    return [issuer["audience"] for issuer in json.loads(settings["STORECAST_API_ISSUERS"])]


def test_a_second_and_a_third_set_up_succeed(set_up):
    template = objects.get("rayjob", "storecast-template")
    managers = {entry["manager"] for entry in template["metadata"]["managedFields"]}
    assert any("kuberay" in manager for manager in managers), managers
    for audience in ("/projects/1/global/backendServices/3", project.IAP_AUDIENCE):
        again = project.apply(project.write_overlay(inside.overlay(), audience=audience))
        assert again.returncode == 0, again.stderr
        assert audiences() == [audience]
    assert objects.get("rayjob", "storecast-template")["spec"]["suspend"] is True
    assert objects.names("rayclusters") == {"storecast-adhoc"}


def test_the_schedule_makes_a_night_that_the_api_serves(
    clean_night, published_receipts, ask, timeline
):
    cron = objects.get("cronjob", nightly_job.CRON)["spec"]
    began = datetime.now(UTC).replace(microsecond=0)
    moment = began + timedelta(minutes=1, seconds=6)
    at = {"schedule": f"{moment.minute} {moment.hour} * * *", "timeZone": "Etc/UTC"}
    objects.patch("cronjob", nightly_job.CRON, {"spec": {**at, "suspend": False}})
    try:
        made = set()
        wait_until(
            150, "the CronJob's Job", lambda: made.update(nightly_job.scheduled()) or made, 1
        )
        (name,) = made
        timeline("the CronJob made its Job")
        scheduled = objects.get("job", name)["metadata"]["annotations"]
        assert "batch.kubernetes.io/cronjob-scheduled-timestamp" in scheduled
        nightly_job.wait_for_phase("head")
        timeline("the head's pod is there")
        nightly_job.wait_for_phase("driver")
        timeline("the driver runs")
        wait_until(nightly_job.PATIENCE, "a published receipt", published_receipts)
        timeline("the forecast is published")
        wait_until(
            120, "the API's answer", lambda: ask("/v1/stores/s002/forecast").status_code == 200
        )
        answered = datetime.now(UTC)
        timeline("the API answers with it")
        night = nightly_job.finish(nightly_job.NightlyJob(name))
        timeline("the Job is complete")
    finally:
        objects.patch(
            "cronjob",
            nightly_job.CRON,
            {"spec": {"schedule": cron["schedule"], "timeZone": cron["timeZone"]}},
        )
        nightly_job.suspend_schedules()
    assert (night.condition, night.exit_codes) == ("Complete", [0]), night.log
    answer_line = (answered, "The API answers a manager with the forecast of this night")
    nightly_job.report_history("a night", [*nightly_job.history(night), answer_line], began)
    assert len(published_receipts()) == 1
    answer = ask("/v1/stores/s002/forecast").json()
    assert answer["as_of"] == str(YESTERDAY)
    assert ask("/v1/stores/s002/forecast", "stranger@example.com").status_code == 403


def test_a_worker_that_dies_costs_no_night(clean_night, published_receipts):
    night = nightly_job.start()
    nightly_job.wait_for_phase("driver")
    killed = [
        objects.kill(pod["metadata"]["name"])
        for pod in objects.listed("pods", "ray.io/node-type=worker")
    ]
    assert killed
    nightly_job.finish(night)
    assert (night.condition, night.exit_codes[-1]) == ("Complete", 0), night.log
    assert len(published_receipts()) == 1
