"""The API behind its Service: whom it lets in, and updates and scaling that lose no request."""

import json
import time

import pytest

from tests.cluster import inside, nightly_job, objects, project
from tests.cluster.callers import Callers
from tests.cluster.places import NAMESPACE
from tests.cluster.processes import wait_until

HPA = "storecast-api"


def test_a_rolling_update_loses_no_request(served):
    with Callers(served) as callers:
        time.sleep(3)
        objects.call("rollout", "restart", "deployment/storecast-api", f"--namespace={NAMESPACE}")
        objects.wait_for_rollout()
    nightly_job.report("rolling update", callers.figures())
    assert callers.lost == []


def test_a_new_audience_is_the_only_way_in_after_the_next_set_up(served, ask):
    """The rollout of setup's second step: the API's settings are another ConfigMap."""
    new = "/projects/1/global/backendServices/9"
    assert ask(served, audience=new).status_code == 401
    try:
        again = project.apply(project.write_overlay(inside.overlay(), audience=new))
        assert again.returncode == 0, again.stderr
        objects.wait_for_new_pods()
        # The nodes learn a moment later that the old pods are no place for a request any more.
        wait_until(
            30,
            "the old audience's end",
            lambda: all(ask(served).status_code == 401 for _ in range(8)),
            1,
        )
        assert ask(served, audience=new).status_code == 200
        assert ask(served, "stranger@example.com", new).status_code == 403
    finally:
        project.apply(project.write_overlay(inside.overlay()))
        objects.wait_for_new_pods()


@pytest.fixture
def measured_load(cluster_machines, served):
    """metrics-server, until the autoscaler sees the API's load."""
    manifest = cluster_machines.metrics_server()
    inside.kubectl("apply", "--server-side", "--filename", manifest)
    inside.wait_for_workload("kube-system", "deploy/metrics-server")

    def measured():
        status = objects.get("horizontalpodautoscaler", HPA).get("status", {})
        # Until something was measured there is an entry without a resource.
        return any(metric.get("resource") for metric in status.get("currentMetrics") or [])

    try:
        wait_until(240, "the autoscaler's first measurement", measured, 2)
        yield served
    finally:
        objects.call("delete", "--filename", manifest)


def replicas():
    return objects.get("deployment", "storecast-api")["spec"]["replicas"]


def test_the_autoscaler_adds_pods_under_load_and_takes_them_away_again(measured_load, timeline):
    wait_until(400, "the pods without load", lambda: replicas() == 2, 2)
    with Callers(measured_load) as busy:
        timeline("load")
        wait_until(240, "more pods", lambda: replicas() > 2, 1)
        timeline(f"{replicas()} replicas")
        wait_until(180, "their readiness", lambda: len(objects.ready_api_pods()) > 2, 1)
        timeline(f"{len(objects.ready_api_pods())} pods answer")
    assert busy.lost == []
    # Without the five minutes for which the autoscaler waits before it takes a pod away.
    at_once = {"scaleDown": {"stabilizationWindowSeconds": 0}}
    objects.patch("hpa", HPA, {"spec": {"behavior": at_once}})
    try:
        with Callers(measured_load, pause=2) as few:
            wait_until(400, "the pods without load", lambda: replicas() == 2, 2)
            objects.wait_for_rollout()
            timeline("2 replicas")
    finally:
        pointer = [{"op": "remove", "path": "/spec/behavior/scaleDown/stabilizationWindowSeconds"}]
        objects.call(
            "patch", "hpa", HPA, f"--namespace={NAMESPACE}", "--type=json",
            f"--patch={json.dumps(pointer)}",
        )  # fmt: skip
    timeline(f"{busy.requests + few.requests} requests, lost: {busy.lost + few.lost}")
    assert few.lost == []
