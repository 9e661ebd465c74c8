"""k8s/gcp/apply: what is applied, and that the ad-hoc cluster is left alone while it is awake."""

import os
import subprocess
import sys

import pytest
import yaml

from tests.k8s.support.manifests import K8S

FAKE = f"""#!{sys.executable} -IS
import os, pathlib, sys
folder = pathlib.Path(sys.argv[0]).parent
with (folder / "calls").open("a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
if "kustomize" in sys.argv:
    print((folder / "manifests").read_text())
if "get" in sys.argv:
    print((folder / "state").read_text(), end="")
"""


@pytest.fixture
def apply(tmp_path):
    """Runs the script with a fake kubectl; returns its output, and each call in one line."""
    (tmp_path / "kubectl").write_text(FAKE)
    (tmp_path / "kubectl").chmod(0o755)

    def call(state="", *arguments, kinds=("ConfigMap", "RayCluster")):
        documents = [{"kind": kind, "metadata": {"name": "x"}} for kind in kinds]
        (tmp_path / "manifests").write_text(yaml.safe_dump_all(documents))
        (tmp_path / "state").write_text(state)
        process = subprocess.run(
            [K8S / "gcp" / "apply", *arguments],
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return process.stdout, (tmp_path / "calls").read_text().splitlines()

    return call


def applied(calls):
    """The selectors of what was applied in earnest, in order."""
    return [
        line.partition("--selector=")[2]
        for line in calls
        if "apply" in line and "dry-run" not in line and "--selector" in line
    ]


@pytest.mark.parametrize("state", ["", "storecast-adhoc:true"])
def test_an_ad_hoc_cluster_that_sleeps_or_is_missing_is_applied(apply, state):
    output, calls = apply(state)
    assert applied(calls) == [
        "app.kubernetes.io/component!=adhoc",
        "app.kubernetes.io/component=adhoc",
    ]
    assert "awake" not in output


@pytest.mark.parametrize("state", ["storecast-adhoc:false", "storecast-adhoc:"])
def test_an_ad_hoc_cluster_that_is_awake_stays_as_it_is(apply, state):
    output, calls = apply(state)
    assert applied(calls) == ["app.kubernetes.io/component!=adhoc"]
    assert "storecast-adhoc is awake and stays as it is" in output


def test_an_overlay_without_ad_hoc_cluster_asks_for_none(apply):
    _, calls = apply(kinds=("ConfigMap",))
    assert applied(calls) == ["app.kubernetes.io/component!=adhoc"]
    assert not any("get" in line for line in calls)


def test_all_is_validated_before_anything_but_the_namespace_is_changed(apply):
    _, calls = apply("", "--context", "gke_x", "elsewhere")
    assert calls[0] == "kustomize elsewhere"
    namespace, validated, *_ = calls[1:]
    assert "namespace.yaml" in namespace
    assert "--dry-run=server" in validated
    assert all("--context=gke_x" in line for line in calls[1:])
    assert all("--force-conflicts --validate=strict" in line for line in calls if "apply" in line)
