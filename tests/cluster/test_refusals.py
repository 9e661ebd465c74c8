"""What cannot start or is refused: the submitter names it, with the exit code of its kind."""

import json
import re
import time
from copy import deepcopy

import jwt
import pytest
import yaml

from tests.cluster import inside, nightly_job, objects, project
from tests.cluster.places import KUBECONFIG, NAMESPACE
from tests.cluster.processes import wait_until

TEMPLATE = "storecast-template"
HEAD = "/spec/rayClusterSpec/headGroupSpec"


@pytest.fixture
def template(clean_night):
    """Changes the template: fields of the head's container, of its pod, of the RayJob."""
    before = objects.get("rayjob", TEMPLATE)["spec"]
    original = before["rayClusterSpec"]["headGroupSpec"]

    def change(container=None, pod=None, **fields):
        head = deepcopy(original)
        head["template"]["spec"].update(pod or {})
        head["template"]["spec"]["containers"][0].update(container or {})
        values = {f"/spec/{name}": value for name, value in fields.items()}
        objects.replace("rayjob", TEMPLATE, {HEAD: head, **values})

    yield change
    change(backoffLimit=before["backoffLimit"])


HINDERED = {
    "image": (
        {"container": {"image": "localhost/nowhere:1"}},
        r"pod \S+-head-\S+: (ErrImagePull|ImagePullBackOff): .*nowhere",
    ),
    "processors": (
        {"container": {"resources": {"requests": {"cpu": "500"}}}},
        r"pod \S+-head-\S+: Unschedulable: 0/\d nodes are available: .*Insufficient cpu",
    ),
    "secret": (
        {
            "container": {
                "env": [
                    {
                        "name": "MISSING",
                        "valueFrom": {"secretKeyRef": {"name": "missing", "key": "x"}},
                    }
                ]
            }
        },
        r'pod \S+-head-\S+: CreateContainerConfigError: secret "missing" not found',
    ),
    "volume": (
        {"pod": {"volumes": [{"name": "tmp", "secret": {"secretName": "missing"}}]}},
        r"pod \S+-head-\S+: FailedMount: .*secret \"missing\" not found",
    ),
    "privileges": (
        {"container": {"securityContext": {"privileged": True}}},
        r"RayCluster \S+: \S+: .*violates PodSecurity",
    ),
}


NEVER_STARTED = ("image", "secret")
"""Those whose end is waited for, too."""
DEADLINE = 75
"""Seconds until they end: their submitters have said once before what is the matter. Without a
second attempt, which would have as long."""


def test_what_keeps_a_pod_from_starting_is_named_within_two_minutes(template, timeline):
    """Five runs of their own at once, named after what they lack; two of them end by a deadline."""
    is_old = inside.kuberay().startswith("1.5.")
    field = "activeDeadlineSeconds" if is_old else "preRunningDeadlineSeconds"
    before = objects.get("rayjob", TEMPLATE)["spec"]
    usual = {name: before[name] for name in (field, "backoffLimit")}
    began, nights, said = {}, {}, {}

    def all_named():
        for name, night in nights.items():
            nightly_job.collect(night)
            for event in night.events:
                if event["event"] == "submit_heartbeat" and event.get("problem"):
                    said.setdefault(name, (event["problem"], time.monotonic() - began[name]))
        return said.keys() == nights.keys()

    try:
        for name, (change, _) in HINDERED.items():
            limits = {field: DEADLINE, "backoffLimit": 0} if name in NEVER_STARTED else usual
            template(**change, **limits)
            known = objects.names("rayjobs")
            nights[name] = nightly_job.start(name, options=("--adhoc",))
            wait_until(120, "the RayJob", lambda known=known: objects.names("rayjobs") - known, 0.5)
            began[name] = time.monotonic()
        wait_until(240, "a reason of each", all_named, 2)
        for name, (problem, seconds) in said.items():
            timeline(f"{name}: after {seconds:.0f} s: {problem}")
        for name in NEVER_STARTED:
            wait_for_end(nights[name])
            timeline(f"{name}: ended {time.monotonic() - began[name]:.0f} s after its RayJob")
    finally:
        template(**usual)
    for name, (_, pattern) in HINDERED.items():
        problem, seconds = said[name]
        assert re.search(pattern, problem), (name, problem)
        assert seconds < 125, (name, seconds)
    for name in NEVER_STARTED:
        night = nights[name]
        assert night.exit_codes[0] == 75, night.log
        (finished,) = [entry for entry in night.events if entry["event"] == "submit_finished"]
        assert finished["outcome"] == ("deadline" if is_old else "not_started")
        sentence = night.logs[0].strip().splitlines()[-1]
        assert re.search(HINDERED[name][1], sentence), sentence


def wait_for_end(night):
    """Wait for the first end of a Job's pod, and let no further one follow."""

    def ended():
        nightly_job.collect(night)
        return night.exit_codes

    wait_until(300, f"the end of {night.name}", ended, 1)
    objects.delete("jobs", night.name)


def test_a_template_that_the_operator_refuses_is_bad_input(template):
    template(backoffLimit=-1)
    night = nightly_job.finish(nightly_job.start())
    assert night.exit_codes == [2], night.log
    assert night.outcomes == [("invalid", 2)]
    assert "was refused by the operator as invalid" in night.log
    assert (night.condition, night.reason) == ("Failed", "PodFailurePolicy")


@pytest.fixture
def narrow_definition(clean_night):
    """KubeRay's definition of RayJobs allows deadlines of at most ten seconds."""
    name = "rayjobs.ray.io"
    versions = objects.get("customresourcedefinition", name)["spec"]["versions"]
    number = next(number for number, entry in enumerate(versions) if entry["name"] == "v1")
    schema = f"/spec/versions/{number}/schema/openAPIV3Schema/properties/spec/properties"
    place = f"{schema}/activeDeadlineSeconds/maximum"

    def change(**operation):
        patch = [{"path": place, **operation}]
        objects.call("patch", "crd", name, "--type=json", f"--patch={json.dumps(patch)}")
        time.sleep(5)  # until the API server validates by it

    change(op="add", value=10)
    yield
    change(op="remove")


def test_a_rayjob_that_the_definition_refuses_is_bad_input(narrow_definition):
    result = nightly_job.submit_here("--wait")
    assert result.returncode == 2, result.stderr
    assert "answered 422" in result.stderr
    assert "spec.activeDeadlineSeconds" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_field_that_the_definition_lacks_is_refused_before_anything_changes(set_up):
    """As `setup` would meet it with an overlay for another KubeRay."""
    before = objects.get("rayjob", TEMPLATE)["metadata"]["resourceVersion"]
    folder = project.write_overlay(inside.overlay())
    path = folder / "kustomization.yaml"
    document = yaml.safe_load(path.read_text())
    unknown = "- {op: add, path: /spec/fieldOfAnotherVersion, value: 1}"
    document["patches"].append({"target": {"kind": "RayJob"}, "patch": unknown})
    path.write_text(yaml.safe_dump(document))
    applied = project.apply(folder)
    project.write_overlay(inside.overlay())
    assert applied.returncode != 0
    assert "fieldOfAnotherVersion" in applied.stderr
    assert objects.get("rayjob", TEMPLATE)["metadata"]["resourceVersion"] == before


def test_a_namespace_without_template_is_told(clean_night, tmp_path):
    """The real API server, the submitter on this machine."""
    result = nightly_job.submit_here("--wait", STORECAST_NAMESPACE="default")
    assert result.returncode == 2
    assert "namespace default has no RayJob storecast-template" in result.stderr


def test_a_token_that_has_expired_is_told(cluster_machines, clean_night, tmp_path):
    key = cluster_machines.accounts_key()
    discovery = objects.call("get", "--raw=/.well-known/openid-configuration")
    issuer = json.loads(discovery)["issuer"]
    now = int(time.time())
    claims = {
        "iss": issuer,
        "aud": [issuer],
        "sub": f"system:serviceaccount:{NAMESPACE}:storecast-submitter",
        "iat": now - 7200,
        "exp": now - 3600,
        "kubernetes.io": {
            "namespace": NAMESPACE,
            "serviceaccount": {"name": "storecast-submitter", "uid": "x"},
        },
    }
    (cluster,) = json.loads(KUBECONFIG.read_text())["clusters"]
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster],
        "users": [{"name": "u", "user": {"token": jwt.encode(claims, key, algorithm="RS256")}}],
        "contexts": [{"name": "u", "context": {"cluster": cluster["name"], "user": "u"}}],
        "current-context": "u",
    }
    path = nightly_job.write_kubeconfig(tmp_path, config)
    result = nightly_job.submit_here("--wait", KUBECONFIG=str(path))
    assert result.returncode == 1
    assert "401 Unauthorized" in result.stderr
    assert "Traceback" not in result.stderr
