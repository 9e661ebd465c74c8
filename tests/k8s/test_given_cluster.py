"""A cluster that is given to tests/cluster: whose it may be, and what runs on kind's nodes.

Nothing here starts one: `make cluster-test` does, see tests/cluster/README.md.
"""

import pytest
import yaml

from tests.cluster import kind
from tests.cluster.given import GivenError, machines_of
from tests.cluster.kind import KindMachines

MACHINES = KindMachines("docker", "storecast", "storecast-control-plane", "storecast-worker")


def node(name, identity="", **labels):
    spec = {"providerID": identity} if identity else {}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def kinds(name, **labels):
    return node(name, f"kind://docker/storecast/{name}", **labels)


CONTROL = kinds("storecast-control-plane", **{"node-role.kubernetes.io/control-plane": ""})


def test_kind_s_machines_follow_from_its_nodes():
    assert machines_of([kinds("storecast-worker"), CONTROL]) == MACHINES


def test_a_cluster_of_another_shape_is_told_how_to_be_made():
    with pytest.raises(GivenError, match="--config tests/cluster/kind.yaml"):
        machines_of([CONTROL])


def test_a_provider_s_cluster_is_not_taken():
    """The tests delete nodes, and KubeRay's definitions with every RayJob."""
    nodes = [CONTROL, node("gke-storecast-1", "gce://project/europe-west3-a/gke-storecast-1")]
    for each in (nodes, nodes[1:]):
        with pytest.raises(GivenError, match="is the cluster of a provider"):
            machines_of(each)


def test_a_cluster_without_provider_shows_no_machines():
    assert machines_of([node("node1")]) is None


@pytest.fixture
def written(tmp_path, monkeypatch):
    """The one container of a manifest as it is written for kind, and its pod."""
    monkeypatch.setattr(kind, "STATE", tmp_path)

    def read(path):
        documents = list(yaml.safe_load_all(path.read_text()))
        (pod,) = (
            document["spec"]["template"]["spec"]
            for document in documents
            if document["kind"] == "Deployment"
        )
        (container,) = pod["containers"]
        return pod, container

    return read


def test_kind_gets_the_image_that_the_operator_s_project_publishes(written):
    pod, container = written(MACHINES.operator("1.6.2"))
    assert container["image"] == "quay.io/kuberay/operator:v1.6.2"
    assert container["command"][0] == "/manager"
    assert pod["nodeSelector"] == {"kubernetes.io/hostname": "storecast-control-plane"}


def test_kind_gets_the_metrics_server_of_our_own_cluster_s_version(written):
    _, container = written(MACHINES.metrics_server())
    assert container["image"].startswith("registry.k8s.io/metrics-server/metrics-server:v0.")
    assert container["command"][0] == "/metrics-server"
