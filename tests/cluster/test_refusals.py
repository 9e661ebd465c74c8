"""What cannot start or is refused: the submitter names it, with the exit code of its kind."""

import re
import time
from copy import deepcopy

import jwt
import pytest

from tests.cluster import nightly_job, objects
from tests.cluster.places import API_SERVER, NAMESPACE, STATE
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


def test_what_keeps_a_pod_from_starting_is_named_within_two_minutes(template):
    """Five runs of their own at once; their names are those of what they lack."""
    began, nights = {}, {}
    for name, (change, _) in HINDERED.items():
        template(**change)
        known = objects.names("rayjobs")
        nights[name] = nightly_job.start(name, options=("--adhoc",))
        wait_until(120, "the RayJob", lambda known=known: objects.names("rayjobs") - known, 0.5)
        began[name] = time.monotonic()
    said = {}

    def all_named():
        for name, night in nights.items():
            nightly_job.collect(night)
            for event in night.events:
                if event["event"] == "submit_heartbeat" and event.get("problem"):
                    said.setdefault(name, (event["problem"], time.monotonic() - began[name]))
        return said.keys() == nights.keys()

    try:
        wait_until(240, "a reason of each", all_named, 2)
    finally:
        nightly_job.report(
            "problems",
            [f"{name}: {seconds:.0f} s: {text}" for name, (text, seconds) in said.items()],
        )
    for name, (_, pattern) in HINDERED.items():
        problem, seconds = said[name]
        assert re.search(pattern, problem), (name, problem)
        assert seconds < 125, (name, seconds)


def test_a_template_that_the_operator_refuses_is_bad_input(template):
    template(backoffLimit=-1)
    night = nightly_job.finish(nightly_job.start())
    assert night.exit_codes == [2], night.log
    assert night.outcomes == [("invalid", 2)]
    assert "was refused by the operator as invalid" in night.log


def test_a_namespace_without_template_is_told(clean_night, tmp_path):
    """The real API server, the submitter on this machine."""
    result = nightly_job.submit_here("--wait", STORECAST_NAMESPACE="default")
    assert result.returncode == 2
    assert "namespace default has no RayJob storecast-template" in result.stderr


def test_a_token_that_has_expired_is_told(clean_night, tmp_path):
    key = (STATE / "pki" / "accounts.key").read_bytes()
    now = int(time.time())
    claims = {
        "iss": "https://kubernetes.default.svc",
        "aud": ["https://kubernetes.default.svc"],
        "sub": f"system:serviceaccount:{NAMESPACE}:storecast-submitter",
        "iat": now - 7200,
        "exp": now - 3600,
        "kubernetes.io": {
            "namespace": NAMESPACE,
            "serviceaccount": {"name": "storecast-submitter", "uid": "x"},
        },
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "here",
                "cluster": {
                    "server": f"https://{API_SERVER}",
                    "certificate-authority": str(STATE / "pki" / "apiserver.crt"),
                },
            }
        ],
        "users": [{"name": "u", "user": {"token": jwt.encode(claims, key, algorithm="RS256")}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "u"}}],
        "current-context": "here",
    }
    path = nightly_job.write_kubeconfig(tmp_path, config)
    result = nightly_job.submit_here("--wait", KUBECONFIG=str(path))
    assert result.returncode == 1
    assert "401 Unauthorized" in result.stderr
    assert "Traceback" not in result.stderr
