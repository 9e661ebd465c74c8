"""Who may do what on the real API server, and who reaches whom through the enforced policies."""

import itertools
import json
from contextlib import suppress

import pytest

from tests.cluster import nightly_job, objects
from tests.cluster.control_plane import kubectl
from tests.cluster.places import NAMESPACE, storage
from tests.cluster.processes import NotReadyError, succeeds, wait_until
from tests.fake_gcs import Fault

AUTOSCALER = {
    *((verb, "pods") for verb in ("get", "list", "watch", "patch")),
    *((verb, "rayclusters.ray.io") for verb in ("get", "patch")),
}
BY_VERSION = {("patch", "pods/resize")}
"""What KubeRay allows from 1.6 on to the account of a cluster with an autoscaler."""
ALLOWED = {
    "storecast-submitter": {
        *((verb, "rayjobs.ray.io") for verb in ("get", "list", "watch", "create", "delete")),
        ("delete", "rayclusters.ray.io"),
        ("get", "jobs.batch"),
        ("delete", "jobs.batch"),
        ("list", "pods"),
        ("list", "events"),
        ("get", "pods/log"),
    },
    "storecast-job": set(),  # but while a night runs
    "storecast-adhoc": AUTOSCALER,
    "storecast-trainer": set(),
    "storecast-cleaner": set(),
    "storecast-api": set(),
}


def test_every_account_is_looked_at(set_up):
    assert objects.names("serviceaccounts") - {"default"} == set(ALLOWED)


def rules_of(token, namespace):
    """(verb, resource) of everything that the bearer may do in the namespace."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    answer = objects.call(
        "create",
        "--filename=-",
        "--validate=false",
        "--output=json",
        f"--token={token}",
        stdin=json.dumps(review),
    )
    return {
        (verb, f"{resource}.{group}".rstrip("."))
        for rule in json.loads(answer)["status"]["resourceRules"]
        for verb, resource, group in itertools.product(
            rule["verbs"], rule["resources"], rule["apiGroups"]
        )
        # Everybody may ask who he is and what he may do.
        if group not in {"authorization.k8s.io", "authentication.k8s.io"}
    }


def token_of(service_account):
    return objects.call("create", "token", service_account, f"--namespace={NAMESPACE}").strip()


@pytest.mark.parametrize("service_account", ALLOWED)
def test_each_account_may_do_its_work_and_nothing_else(service_account, clean_night):
    token = token_of(service_account)
    assert rules_of(token, NAMESPACE) - BY_VERSION == ALLOWED[service_account]
    assert rules_of(token, "kube-system") == set()
    nodes = kubectl("auth", "can-i", "list", "nodes", f"--token={token}")
    assert not succeeds(*nodes)


PROBE = (
    "import socket, sys\n"
    "for place in sys.argv[1:]:\n"
    "    host, _, port = place.rpartition(':')\n"
    "    try:\n"
    "        socket.create_connection((host, int(port)), timeout=4).close()\n"
    "        print(place, 'open')\n"
    "    except OSError:\n"
    "        print(place, 'closed')\n"
)


def assert_reaches(pod, expected, *places):
    """A process in the pod can connect to these of the places (host:port), and to no other.

    The firewall of these tests lets some packets wait while it learns of other pods.
    """
    opened = set()

    def has_reached_all():
        lines = objects.execute(pod, "python", "-c", PROBE, *places).splitlines()
        opened.update(line.split()[0] for line in lines if line.endswith(" open"))
        return opened >= expected

    with suppress(NotReadyError):
        wait_until(60, "the open places", has_reached_all, 1)
    assert opened == expected


def address(pod):
    return pod["status"]["podIP"]


def test_policies_let_through_what_is_needed_and_nothing_else(clean_night, storage_server):
    # The driver runs until the test is through with its pods.
    storage_server.faults.add(
        Fault("stall", op="insert", key="results/parts/*", seconds=3000, times=None)
    )
    night = nightly_job.start()
    nightly_job.wait_for_phase("driver")
    status = objects.get("rayjob", nightly_job.RAYJOB)["status"]
    (head,) = nightly_job.head_pods(status)
    workers = f"ray.io/cluster={status['rayClusterName']},ray.io/node-type=worker"

    def running():
        return [pod for pod in objects.listed("pods", workers) if objects.is_ready(pod)]

    wait_until(300, "a worker", running, 1)
    worker = running()[0]
    api = objects.listed("pods", "app.kubernetes.io/component=api")[0]
    (submitter,) = nightly_job.pods(night)
    (ray_submitter,) = objects.listed("pods", f"job-name={nightly_job.RAYJOB}")
    storage_place, api_server = (
        f"{host}:{port}" for host, port in (storage(), objects.api_server())
    )
    gcs_port, dashboard = f"{address(head)}:6379", f"{address(head)}:8265"
    page = f"{address(api)}:8080"
    metrics = f"{address(worker)}:8080"
    every = (storage_place, api_server, gcs_port, dashboard, page, metrics)
    outside = {storage_place, api_server}
    names = {
        kind: pod["metadata"]["name"]
        for kind, pod in {
            "worker": worker,
            "api": api,
            "submitter": submitter,
            "ray": ray_submitter,
        }.items()
    }
    assert_reaches(names["worker"], outside | {gcs_port, dashboard, metrics}, *every)
    assert_reaches(names["api"], outside, storage_place, api_server, gcs_port, dashboard, metrics)
    assert_reaches(names["submitter"], outside, *every)
    assert_reaches(names["ray"], outside | {dashboard}, *every)
    # KubeRay makes the rights of the account for each cluster, and they go with it.
    head_rules = rules_of(token_of("storecast-job"), NAMESPACE)
    assert head_rules - BY_VERSION == AUTOSCALER
    objects.delete("rayjobs", nightly_job.RAYJOB)
    nightly_job.finish(night)
    storage_server.faults.clear()
    assert night.outcomes == [("deleted", 1)]


def test_every_pod_that_kuberay_makes_fits_the_restricted_level(set_up):
    namespace = objects.get("namespace", NAMESPACE)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    events = objects.listed("events")
    refused = [event for event in events if "PodSecurity" in event.get("message", "")]
    asked_for_it = ("storecast-adhoc-",)  # test_refusals.py
    assert [
        event["message"]
        for event in refused
        if not event["involvedObject"]["name"].startswith(asked_for_it)
    ] == []
