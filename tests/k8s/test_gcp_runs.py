"""setup and teardown against fakes of the programs that they call: once, twice, and changed."""

import contextlib
import os
import re
import shlex
import threading

import pytest
import yaml

from k8s.gcp import stale_grants

CONTEXT = "--context=gke_storecast-example_europe-west3_storecast"


def creations(calls):
    return [
        call for call in calls if {"create", "create-auto"} & set(call) and "describe" not in call
    ]


def test_setup_twice_makes_everything_once_and_teardown_takes_it_away(run_script):
    assert len(creations(run_script("setup"))) >= 20
    repeated = run_script("setup")
    assert creations(repeated) == []
    assert any("update" in call for call in repeated), "metrics and policies follow their files"
    assert any("add-iam-policy-binding" in call and "iap" in call for call in repeated)
    assert not any("remove-iam-policy-binding" in call for call in repeated)
    live = yaml.safe_load((run_script.gcp / "live" / "kustomization.yaml").read_text())
    assert {image["digest"] for image in live["images"]} == {"sha256:" + "a" * 64}
    run_script("teardown", "--yes")
    assert [line for line in run_script.state() if "backend-services" not in line] == []
    calls = run_script("teardown", "--yes")
    assert not any("delete" in call for call in calls)


def test_gcloud_s_parser_accepts_what_settings_change(installed, parse_gcloud):
    """A dry run shows one way only; these are the calls of others."""
    helm = installed.settings(OPERATOR="helm")
    calls = installed("setup", *helm)
    installed.delete("container clusters")
    calls += installed("setup", *installed.settings(FOLDER="42", NETWORK="shared", SUBNETWORK="s"))
    calls += installed("teardown", "--yes")
    lines = [call[1:] for call in calls if call[0] == "gcloud" and call[1] != "auth"]
    stale = ["storage", "buckets", "remove-iam-policy-binding", "gs://b", "--member=user:a@b.c"]
    lines += [
        [*stale, "--role=roles/storage.objectViewer", f"--condition={condition}"]
        for condition in ("None", 'title=t,expression=resource.name.startsWith("a")')
    ]
    lines += [["projects", "create", "storecast-p", "--folder=42"]]
    unique = [list(line) for line in dict.fromkeys(tuple(line) for line in lines)]
    for line, answer in zip(unique, parse_gcloud(unique), strict=True):
        assert answer["code"] == 1, f"{shlex.join(line)}\n{answer['output']}"
        assert "active account" in answer["output"], answer["output"]


def test_one_operator_acts_and_every_call_of_the_cluster_names_its_context(installed):
    assert "addon: RayOperator" in installed.state()
    helm = installed.settings(OPERATOR="helm", KUBERAY_CHART="1.5.1")
    calls = installed("setup", *helm)
    charts = [call for call in calls if call[0] == "helm"]
    assert [call[1] for call in charts] == ["show", "upgrade"]
    assert all("--version=1.5.1" in call for call in charts)
    assert "addon: RayOperator" not in installed.state()
    assert "helm: kuberay-operator" in installed.state()
    back = installed("setup")
    assert [call[1] for call in back if call[0] == "helm"] == ["uninstall"]
    assert "addon: RayOperator" in installed.state()
    assert "helm: kuberay-operator" not in installed.state()
    installed("setup", *helm)
    torn_down = installed("teardown", "--yes", *helm)
    for run in (calls, torn_down):
        credentials = next(n for n, call in enumerate(run) if "get-credentials" in call)
        for number, call in enumerate(run):
            if call[0] in {"kubectl", "helm"} and call[1] not in {"show", "kustomize"}:
                assert number > credentials, "before the credentials the context may be missing"
                assert CONTEXT in call or CONTEXT.replace("context", "kube-context") in call, call
    lines = [shlex.join(call) for call in torn_down]
    blocking = [
        "get-credentials",
        "delete cronjobs",
        "delete rayjobs,rayclusters",
        "delete gateways,httproutes",
        "delete namespace",
        "helm uninstall",
        "clusters delete",
        "network-endpoint-groups delete",
        "routers nats delete",
        "routers delete",
        "subnets delete",
        "networks delete",
        "projects delete",
    ]
    order = [next(n for n, line in enumerate(lines) if part in line) for part in blocking]
    assert order == sorted(order), "what blocks goes before what it blocks"


def test_teardown_s_question_names_the_context_and_no_is_no(installed):
    ours, terminal = os.openpty()
    shown = []

    def operate():
        with contextlib.suppress(OSError):
            while text := os.read(ours, 65536).decode():
                shown.append(text)
                if text.endswith("[y/N] "):
                    os.write(ours, b"n\n")

    operator = threading.Thread(target=operate)
    operator.start()
    process = installed.run(
        "teardown",
        capture_output=False,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        preexec_fn=lambda: os.login_tty(terminal),
    )
    os.close(terminal)
    operator.join(30)
    os.close(ours)
    assert process.returncode == 0
    assert f"in the cluster of the context {CONTEXT[10:]}? [y/N]" in "".join(shown)
    assert not any("delete" in call for call in installed.calls())


def test_without_the_cluster_teardown_asks_no_cluster(installed):
    installed.delete("container clusters")
    calls = installed("teardown", "--yes")
    assert not any(call[0] == "kubectl" for call in calls), "another cluster may be the current one"
    assert any(call[1:3] == ["projects", "delete"] for call in calls)


@pytest.mark.parametrize(
    ("kuberay", "overlay"),
    [("v1.5.1", "prod"), ("v1.6.2", "prod-kuberay-1.6"), ("v1.7.0", "prod-kuberay-1.6")],
)
def test_the_overlay_is_the_one_that_the_live_definition_takes(installed, kuberay, overlay):
    installed("setup", kuberay=kuberay)
    live = yaml.safe_load((installed.gcp / "live" / "kustomization.yaml").read_text())
    assert live["resources"] == [f"../../overlays/{overlay}"]


def test_an_operator_without_tokens_is_refused_before_anything_is_applied(installed):
    process = installed.run("setup", kuberay="none")
    assert process.returncode == 1
    assert "older than 1.5.1" in process.stderr
    assert "OPERATOR=helm" in process.stderr
    assert not any("apply" in call for call in installed.calls())


def test_a_network_that_is_given_is_used_and_none_is_made(run_script):
    settings = run_script.settings(NETWORK="shared", SUBNETWORK="west", FOLDER="42")
    process = run_script.run("setup", *settings, fresh="serviceAccount:storecast-nodes")
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("Tried again in 0 s") == 1, "a fresh account is not seen at once"
    short = "CPUS has 24 left of the 44 that a night takes; SSD_TOTAL_GB has 0 left"
    assert short in process.stdout, "quotas are looked at before the cluster is made"
    calls = run_script.calls()
    assert not any("compute networks" in shlex.join(call) for call in calls)
    (created,) = [call for call in calls if "create-auto" in call]
    assert {"--network=shared", "--subnetwork=west", "--enable-private-nodes"} <= set(created)
    (project,) = [call for call in calls if call[1:3] == ["projects", "create"]]
    assert project[-1] == "--folder=42"
    built = [call for call in calls if call[:2] == ["podman", "build"]]
    assert len(built) == 2
    assert all("--platform=linux/amd64" in call for call in built), "the nodes' processor"
    torn_down = run_script("teardown", "--yes", *settings)
    assert not any("compute networks" in shlex.join(call) for call in torn_down)


def test_a_grant_that_became_narrower_leaves_no_wider_one(installed):
    before = installed.grants()
    lib = installed.gcp / "lib.sh"
    text = lib.read_text()
    wide = "storecast-api objectViewer results/ access/"
    gone = "storecast-adhoc objectCreator results/parts/ results/receipts/\n"
    assert wide in text
    assert gone in text
    narrowed = text.replace(wide, "storecast-api objectViewer results/releases/")
    lib.write_text(narrowed.replace(gone, ""))
    foreign = ("user:auditor@example.com", "roles/storage.objectViewer", "")
    installed.grant(*foreign)
    installed("setup")
    after = installed.grants()
    assert foreign in after, "what others granted is left alone"
    assert len(after) == len(before), "one grant less of ours, and the foreign one"
    (api,) = [
        condition
        for member, role, condition in after
        if member.endswith("/storecast-api") and role.endswith("objectViewer")
    ]
    assert re.findall(r"objects/([^\"]*)", api) == ["results/releases/"]
    assert not any(
        member.endswith("/storecast-adhoc") and role.endswith("objectCreator")
        for member, role, _ in after
    )


OURS = "principal://iam.googleapis.com/p/subject/ns/storecast/sa/"


@pytest.mark.parametrize(
    ("binding", "expected"),
    [
        (
            {"role": "r", "members": [f"{OURS}a"], "condition": {"title": "t", "expression": "e"}},
            [],
        ),
        (
            {"role": "r", "members": [f"{OURS}a"], "condition": {"title": "t", "expression": "f"}},
            [(f"{OURS}a", "r", "title=t,expression=f")],
        ),
        ({"role": "r", "members": [f"{OURS}a"]}, [(f"{OURS}a", "r", "None")]),
        ({"role": "plain", "members": [f"{OURS}a", "user:b"]}, []),
        ({"role": "q", "members": ["user:b", f"{OURS}c"]}, [(f"{OURS}c", "q", "None")]),
        (
            {
                "role": "r",
                "members": [f"{OURS}a"],
                "condition": {"title": "t", "description": "d", "expression": "e"},
            },
            [(f"{OURS}a", "r", "title=t,description=d,expression=e")],
        ),
        ({"role": "r", "members": ["deleted:principal://iam.googleapis.com/p/sa/x"]}, []),
    ],
)
def test_stale_grants(binding, expected):
    wanted = {f"{OURS}a r title=t,expression=e", f"{OURS}a plain "}
    assert stale_grants.stale(OURS, {"bindings": [binding]}, wanted) == expected
