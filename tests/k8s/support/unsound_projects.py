"""Projects in which one thing is wrong: the check, the change, the mark and the reason."""

from k8s.gcp.verification import project
from k8s.gcp.verification.answers import Page
from tests.k8s.support.sound_project import (
    binding,
    grant,
    quota,
)


def at(live, key, path, value):
    """Change the answer `key` at a path of names and indexes."""
    target = live.answers[key]
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value


CLUSTER = "gcloud container clusters describe"
BUCKET = "gcloud storage buckets describe"
WINDOW = ["maintenancePolicy", "window", "recurringWindow", "window"]

CASES = [
    (
        project.organisation,
        lambda live: live.answers["gcloud projects get-ancestors"].pop(),
        "fail",
        "a client of your own",
    ),
    (
        project.quotas,
        lambda live: at(live, "gcloud compute regions describe", ["quotas", 0, "usage"], 95.0),
        "fail",
        "CPUS has 5 left of the 12",
    ),
    (
        project.quotas,
        lambda live: at(live, "gcloud compute regions describe", ["quotas", 2, "limit"], 500.0),
        "fail",
        "SSD_TOTAL_GB has 400 left",
    ),
    (
        project.quotas,
        lambda live: at(
            live, "gcloud compute regions describe", ["quotas", 1], quota("PREEMPTIBLE_CPUS", 0)
        ),
        "pass",
        "CPUS 90 left",
    ),
    (project.bucket, lambda live: at(live, BUCKET, ["location"], "US"), "fail", "lies in US"),
    (
        project.bucket,
        lambda live: at(
            live, BUCKET, ["iamConfiguration", "uniformBucketLevelAccess"], {"enabled": False}
        ),
        "fail",
        "no uniform bucket-level access",
    ),
    (
        project.bucket,
        lambda live: at(live, BUCKET, ["softDeletePolicy"], {"retentionDurationSeconds": "0"}),
        "fail",
        "soft delete keeps objects for 0 s",
    ),
    (
        project.bucket,
        lambda live: at(live, BUCKET, ["retentionPolicy"], {"retentionPeriod": "86400"}),
        "fail",
        "the pointer could never move",
    ),
    (
        project.bucket,
        lambda live: at(
            live,
            BUCKET,
            ["lifecycle"],
            {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 30}}]},
        ),
        "fail",
        "deletes live objects",
    ),
    (
        project.bucket,
        lambda live: at(
            live,
            BUCKET,
            ["lifecycle"],
            {"rule": [{"action": {"type": "Delete"}, "condition": {"isLive": False}}]},
        ),
        "pass",
        "soft delete for 7 days",
    ),
    (
        project.grants,
        lambda live: live.answers["gcloud storage buckets get-iam-policy"]["bindings"].pop(),
        "fail",
        "1 grants are missing, such as",
    ),
    (
        project.grants,
        lambda live: live.answers["gcloud storage buckets get-iam-policy"]["bindings"].append(
            binding(grant("storecast-api", "objectViewer", "results/"))
        ),
        "fail",
        "not wanted any more",
    ),
    (
        project.grants,
        lambda live: live.answers["gcloud storage buckets get-iam-policy"]["bindings"].append(
            {"role": "roles/storage.objectViewer", "members": ["allUsers"]}
        ),
        "fail",
        "allUsers may read it",
    ),
    (
        project.private_nodes,
        lambda live: at(live, CLUSTER, ["networkConfig"], {}),
        "fail",
        "public addresses",
    ),
    (
        project.private_nodes,
        lambda live: live.answers.update({"gcloud compute routers nats list": []}),
        "fail",
        "without Cloud NAT",
    ),
    (
        project.private_nodes,
        lambda live: at(live, CLUSTER, ["autopilot"], {}),
        "fail",
        "not an Autopilot cluster",
    ),
    (
        project.maintenance,
        lambda live: live.answers[CLUSTER].pop("maintenancePolicy"),
        "fail",
        "may upgrade the cluster in the night",
    ),
    (
        project.maintenance,
        lambda live: at(live, CLUSTER, [*WINDOW, "startTime"], "2026-01-01T02:00:00Z"),
        "fail",
        "opens at 03:00",
    ),
    (
        project.workload_pool,
        lambda live: live.answers[CLUSTER].pop("workloadIdentityConfig"),
        "fail",
        "the workload pool is None",
    ),
    (
        project.logs,
        lambda live: at(live, CLUSTER, ["loggingConfig"], {}),
        "fail",
        "SYSTEM_COMPONENTS, WORKLOADS",
    ),
    (
        project.alerts,
        lambda live: live.answers["gcloud alpha monitoring policies list"].pop(),
        "fail",
        "is missing: give setup again",
    ),
    (
        project.alerts,
        lambda live: at(live, "gcloud alpha monitoring policies list", [3, "enabled"], False),
        "fail",
        "is switched off",
    ),
    (
        project.alerts,
        lambda live: at(live, "gcloud beta monitoring channels list", [0, "enabled"], False),
        "fail",
        "nobody is told",
    ),
    (
        project.alerts,
        lambda live: at(live, "gcloud alpha monitoring policies list", [0, "conditions"], [{}]),
        "fail",
        "is an older one",
    ),
    (
        project.log_metrics,
        lambda live: live.answers["gcloud logging metrics list"].pop(),
        "fail",
        "are missing: give setup again",
    ),
    (
        project.managed_prometheus,
        lambda live: live.pages.update(
            {"https://monitoring.googleapis.com": Page(200, {}, '{"data": {"result": []}}')}
        ),
        "fail",
        "no gauge of the API arrives",
    ),
    (
        project.managed_prometheus,
        lambda live: at(live, CLUSTER, ["monitoringConfig"], {}),
        "fail",
        "managed collection is off",
    ),
    (
        project.certificate,
        lambda live: setattr(live, "addresses", set()),
        "fail",
        "points at nowhere: point it at 203.0.113.7",
    ),
    (
        project.certificate,
        lambda live: at(
            live,
            "gcloud certificate-manager certificates describe",
            ["managed"],
            {
                "state": "PROVISIONING",
                "authorizationAttemptInfo": [{"failureReason": "CONFIG"}],
            },
        ),
        "open",
        "PROVISIONING: CONFIG",
    ),
    (
        project.proxy,
        lambda live: at(live, "gcloud compute backend-services list", [0, "iap"], {}),
        "fail",
        "IAP is off",
    ),
    (
        project.proxy,
        lambda live: at(live, "gcloud compute backend-services list", [0, "id"], "43"),
        "fail",
        "IAP signs for /projects/1/global/backendServices/43",
    ),
    (
        project.proxy,
        lambda live: live.answers.update({"gcloud compute backend-services list": []}),
        "open",
        "no backend yet",
    ),
    (
        project.let_in,
        lambda live: live.answers.update({"gcloud compute backend-services list": []}),
        "open",
        "no backend yet",
    ),
    (
        project.proxy,
        lambda live: live.pages.update(
            {"https://forecasts.example.com": Page(200, {}, "everybody")}
        ),
        "fail",
        "gets 200, and not from IAP",
    ),
    (
        project.let_in,
        lambda live: live.answers.update({"gcloud iap web get-iam-policy": {}}),
        "fail",
        "does not let group:managers@example.com in",
    ),
    (
        project.let_in,
        lambda live: at(
            live,
            "gcloud iap web get-iam-policy",
            ["bindings", 0, "members"],
            ["group:managers@example.com", "group:before@example.com"],
        ),
        "fail",
        "lets group:before@example.com in, too",
    ),
]
