"""Clusters, and accounts, in which one thing is wrong, as in `unsound_projects`."""

from k8s.gcp.verification import cluster, rights
from k8s.gcp.verification.answers import UnansweredError
from tests.k8s.support.sound_project import condition
from tests.k8s.support.unsound_projects import CLUSTER, at

REFUSED = UnansweredError("kubectl create…: admission webhook denied the request")
CHART = {"metadata": {"name": "kuberay-operator", "namespace": "kuberay-system"}}


def refuses(_pod):
    raise REFUSED


def refuses_cron_jobs(pod):
    if pod["metadata"]["generateName"].startswith("verify-storecast-nightly-"):
        raise REFUSED
    return pod


def gives_less(pod):
    for container in pod["spec"]["containers"]:
        container["resources"]["requests"]["ephemeral-storage"] = "1Gi"
    return pod


def with_the_chart(live):
    live.settings.update(OPERATOR="helm")
    at(live, CLUSTER, ["addonsConfig"], {})
    at(live, "kubectl get deployments", ["items"], [CHART])


CASES = [
    (
        cluster.operator,
        lambda live: at(
            live,
            "kubectl get customresourcedefinition",
            ["spec", "versions", 1, "schema"],
            {},
        ),
        "fail",
        "older than 1.5.1",
    ),
    (
        cluster.operator,
        lambda live: at(
            live,
            "kubectl get customresourcedefinition",
            [
                *("spec", "versions", 1, "schema", "openAPIV3Schema", "properties", "spec"),
                *("properties", "preRunningDeadlineSeconds"),
            ],
            {"type": "integer"},
        ),
        "fail",
        "the template is an older one's",
    ),
    (
        cluster.operator,
        lambda live: at(live, "kubectl get deployments", ["items"], [CHART]),
        "fail",
        "GKE's add-on and the operator in namespace kuberay-system act on each RayJob",
    ),
    (
        cluster.operator,
        lambda live: at(live, CLUSTER, ["addonsConfig"], {}),
        "fail",
        "no Ray operator runs",
    ),
    (
        cluster.operator,
        lambda live: live.settings.update(OPERATOR="helm"),
        "fail",
        "GKE's add-on acts, and OPERATOR is helm",
    ),
    (cluster.operator, with_the_chart, "pass", "by helm alone"),
    (
        cluster.admission,
        lambda live: setattr(live, "admit", refuses),
        "fail",
        "Autopilot refuses the pod head",
    ),
    (
        cluster.admission,
        lambda live: setattr(live, "admit", gives_less),
        "fail",
        "head asks for ephemeral-storage 8Gi and gets 1Gi",
    ),
    (
        cluster.admission,
        lambda live: setattr(live, "admit", refuses_cron_jobs),
        "fail",
        "Autopilot refuses the pod storecast-nightly",
    ),
    (
        cluster.spot,
        lambda live: setattr(live, "admit", lambda pod: pod),
        "fail",
        "gets no toleration",
    ),
    (
        cluster.head_reached,
        lambda live: at(live, "kubectl get rayjobs", ["items"], []),
        "open",
        "no night has run yet",
    ),
    (
        cluster.head_reached,
        lambda live: at(
            live,
            "kubectl get rayjobs",
            ["items", 0, "status"],
            {"jobDeploymentStatus": "Failed", "reason": "AppFailed", "jobStatus": ""},
        ),
        "fail",
        "may not reach port 8265",
    ),
    (
        cluster.head_reached,
        lambda live: at(
            live, "kubectl get rayjobs", ["items", 0, "status"], {"jobDeploymentStatus": "Running"}
        ),
        "open",
        "storecast-20261127 is Running",
    ),
    (
        cluster.head_reached,
        lambda live: at(
            live,
            "kubectl get rayjobs",
            ["items", 0, "status"],
            {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"},
        ),
        "pass",
        "the operator knows its driver",
    ),
    (
        cluster.gateway,
        lambda live: at(
            live,
            "kubectl get gateway",
            ["status", "conditions"],
            [condition("Programmed", "False", message="no certificate map")],
        ),
        "fail",
        "Programmed is False: no certificate map",
    ),
    (
        cluster.gateway,
        lambda live: at(live, "kubectl get gcpbackendpolicy", ["status"], {}),
        "fail",
        "Attached is not reported yet",
    ),
    (
        cluster.gateway,
        lambda live: at(live, "kubectl get gateway", ["status", "addresses"], []),
        "fail",
        "203.0.113.7 is the reserved address",
    ),
    (
        rights.workload_identity,
        lambda live: at(
            live,
            "kubectl logs pod/verify-storecast-submitter",
            ["rights", "results/", "read"],
            True,
        ),
        "fail",
        "storecast-submitter may read in results/",
    ),
    (
        rights.workload_identity,
        lambda live: at(
            live,
            "kubectl logs pod/verify-storecast-job",
            ["rights", "results/current.json", "delete"],
            False,
        ),
        "fail",
        "storecast-job may not delete in results/current.json",
    ),
    (
        rights.workload_identity,
        lambda live: live.answers.update({"kubectl wait": UnansweredError("timed out")}),
        "fail",
        "timed out; verify-storecast-job: ImagePullBackOff: 403; verify-storecast-submitter: Unsch",
    ),
    (
        rights.create_only,
        lambda live: at(live, "kubectl logs pod/verify-storecast-job", ["race"], 403),
        "fail",
        "grant objectUser",
    ),
    (
        rights.create_only,
        lambda live: at(live, "kubectl logs pod/verify-storecast-job", ["race"], None),
        "open",
        "no receipt yet",
    ),
    (
        rights.api_server,
        lambda live: at(live, "kubectl logs pod/verify-storecast-submitter", ["kubernetes"], False),
        "fail",
        "name its address",
    ),
]
