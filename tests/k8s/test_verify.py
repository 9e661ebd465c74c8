"""verify: each check passes on good answers, and names what is wrong and the way out on others."""

import json
import os
import shlex
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from k8s.gcp.verification import cluster, probe, project, rights
from k8s.gcp.verification.__main__ import CHECKS, main, verdict
from k8s.gcp.verification.answers import Page, UnansweredError
from tests.k8s.support.manifests import K8S, of_kind
from tests.k8s.support.sound_project import (
    RIGHTS,
    SETTINGS,
    SoundProject,
    binding,
    condition,
    grant,
    quota,
)


@pytest.fixture
def live():
    return SoundProject()


def test_good_answers_pass(live, capsys):
    assert main(live) == 0
    assert capsys.readouterr().out.endswith(f"{len(CHECKS)} pass, 0 fail, 0 open (not seen yet).\n")


def test_gcloud_s_parser_accepts_every_question(live, parse_gcloud):
    main(live)
    asked = [command[1:] for command in live.commands if command[0] == "gcloud"]
    unique = [list(line) for line in dict.fromkeys(tuple(line) for line in asked)]
    assert len(unique) >= 12
    for line, answer in zip(unique, parse_gcloud(unique), strict=True):
        assert answer["code"] == 1, f"{shlex.join(line)}\n{answer['output']}"


def test_every_call_of_the_cluster_names_its_context_and_the_pods_go(live):
    main(live)
    calls = [command for command in live.commands if command[0] == "kubectl"]
    assert all(f"--context={SETTINGS['CONTEXT']}" in call for call in calls)
    (deleted,) = [call for call in calls if "delete" in call]
    assert {"pod/verify-storecast-job", "pod/verify-storecast-submitter"} <= set(deleted)


def at(live, key, path, value):
    """Change the answer `key` at a path of names and indexes."""
    target = live.answers[key]
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value


CLUSTER = "gcloud container clusters describe"
BUCKET = "gcloud storage buckets describe"
WINDOW = ["maintenancePolicy", "window", "recurringWindow", "window"]
REFUSED = UnansweredError("kubectl create…: admission webhook denied the request")


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
        project.proxy,
        lambda live: live.pages.update(
            {"https://forecasts.example.com": Page(200, {}, "everybody")}
        ),
        "fail",
        "gets 200, and not from IAP",
    ),
    (
        project.proxy,
        lambda live: live.answers.update({"gcloud iap web get-iam-policy": {}}),
        "fail",
        "does not let group:managers@example.com in",
    ),
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
        "timed out",
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


@pytest.mark.parametrize(("check", "change", "mark", "reason"), CASES)
def test_what_does_not_hold_is_named_with_the_way_out(live, check, change, mark, reason):
    change(live)
    result = verdict(live, check)
    assert (result.mark, reason in result.reason) == (mark, True), result


def refuses(_pod):
    raise REFUSED


def gives_less(pod):
    for container in pod["spec"]["containers"]:
        container["resources"]["requests"]["ephemeral-storage"] = "1Gi"
    return pod


def test_every_check_fails_by_itself_where_nothing_answers(live, capsys):
    live.answers = {"": UnansweredError("gcloud: you have no account")}
    live.pages = {"": UnansweredError("no address")}
    live.addresses = set()
    live.admit = refuses
    assert main(live) == 1
    assert f"0 pass, {len(CHECKS)} fail" in capsys.readouterr().out


def test_every_check_of_the_list_has_a_case():
    assert {case[0] for case in CASES} == {check for _, check in CHECKS}


def test_the_quotas_are_those_of_the_manifests():
    spec = of_kind("prod", "RayJob")[cluster.TEMPLATE]["spec"]["rayClusterSpec"]
    (spot,) = [group for group in spec["workerGroupSpecs"] if group["groupName"] == "spot"]
    (container,) = spot["template"]["spec"]["containers"]
    processors = int(container["resources"]["requests"]["cpu"])
    assert spot["maxReplicas"] * processors == project.SPOT_CPUS


RECEIPT = "results/receipts/as_of=2026-11-22/a.json"


def cloud_storage(action, name, generation):
    """The status of a request: the rights come first, then the object, then its generation."""
    granted = rights.wanted(SETTINGS["GRANTS"])["storecast-job"][action]
    if not any(name.startswith(prefix) for prefix in granted):
        return 403
    if action != "create" and name != RECEIPT:
        return 404
    is_met = {"0": name != RECEIPT, "1": False, None: True}[generation]
    return 200 if is_met else 412


@pytest.fixture
def bucket_server():
    changed = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_arguments):
            pass

        def respond(self, action):
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            code, body = 200, {"access_token": "storecast-job", "items": [{"name": RECEIPT}]}
            if "service-accounts" not in self.path and "prefix" not in query:
                name = query.get("name") or unquote(parts.path.partition("/o/")[2])
                code = cloud_storage(action, name, query.get("ifGenerationMatch"))
                if action != "read" and code == 200:
                    changed.append(name)
            content = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self):
            self.respond("read")

        def do_POST(self):
            self.respond("create")

        def do_DELETE(self):
            self.respond("delete")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
    assert changed == [], "verify changes nothing"


def test_the_probe_sees_the_rights_and_changes_nothing(bucket_server):
    prefixes = list(RIGHTS["storecast-job"])
    process = subprocess.run(
        [sys.executable, "-c", Path(probe.__file__).read_text(), "b", *prefixes],
        env={
            **os.environ,
            "GCE_METADATA_HOST": bucket_server,
            "STORAGE_EMULATOR_HOST": f"http://{bucket_server}",
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        },
        check=True,
        capture_output=True,
        text=True,
    )
    seen = json.loads(process.stdout)
    assert seen["rights"] == RIGHTS["storecast-job"]
    assert seen["race"] == 412
    assert seen["kubernetes"] is False


def test_the_script_hands_over_its_settings_and_names_its_checks():
    process = subprocess.run(
        [K8S / "gcp" / "verify", "--dry-run"], check=True, capture_output=True, text=True
    )
    assert process.stdout.splitlines() == [title for title, _ in CHECKS]
    script = (K8S / "gcp" / "verify").read_text()
    for name in SETTINGS:
        assert name in script
