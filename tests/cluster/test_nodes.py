"""Two nodes: the API's pods spread, a node is drained, and a node goes away, each in a night."""

import time

import pytest

from tests.cluster import nightly_job, objects
from tests.cluster.callers import Callers
from tests.cluster.control_plane import kubectl
from tests.cluster.nightly_job import RAYJOB
from tests.cluster.places import NAMESPACE
from tests.cluster.processes import succeeds, wait_until
from tests.fake_gcs import Fault
from tests.k8s.support.nights import YESTERDAY


@pytest.fixture(scope="module")
def nodes(cluster_machines, set_up):
    """Two of them, for both tests. The one that lets the second one go away comes last."""
    nodes = cluster_machines
    nodes.add_second()
    yield nodes
    nodes.remove_second()
    # What is left of its pods goes with the node.
    wait_until(180, "the end of its pods", lambda: nodes.second not in places(""), 2)
    first = nodes.first
    wait_until(60, "the first node", lambda: not objects.get("node", first)["spec"].get("taints"))


def places(selector):
    """The nodes of the pods with these labels that are not ending."""
    return {
        pod["spec"].get("nodeName")
        for pod in objects.listed("pods", selector)
        if objects.phase(pod) in {"Pending", "Running"}
    }


@pytest.fixture
def second_node(nodes, served):
    yield nodes
    for node in objects.names("nodes"):
        objects.call("uncordon", node)


@pytest.fixture
def api_on_both_nodes(second_node, nodes):
    objects.call("rollout", "restart", "deployment/storecast-api", f"--namespace={NAMESPACE}")
    objects.wait_for_rollout()
    spread = places("app.kubernetes.io/component=api")
    assert spread == {nodes.first, nodes.second}, "topologySpreadConstraints"


@pytest.fixture
def night_on_the_second_node(second_node, nodes, storage_server):
    """A night whose submitter, head, worker and driver are all on the second node.

    Its driver waits for the acknowledgement of a part. Later requests are answered.
    """
    hang = storage_server.faults.add(
        Fault("stall", op="insert", key="results/parts/*", seconds=3000, times=None)
    )
    objects.call("cordon", nodes.first)
    night = nightly_job.start()
    nightly_job.wait_for_phase("driver")
    assert places("app.kubernetes.io/component in (submitter,ray)") == {nodes.second}
    objects.call("uncordon", nodes.first)
    wait_until(nightly_job.PATIENCE, "a part that hangs", lambda: hang.fired)
    storage_server.faults.clear()
    return night


def publish(night, published_receipts):
    nightly_job.finish(night)
    assert (night.condition, night.exit_codes[-1]) == ("Complete", 0), night.log[-3000:]
    (receipt,) = published_receipts()
    assert receipt.as_of == YESTERDAY
    again = nightly_job.finish(nightly_job.start("again"))
    assert again.exit_codes == [0]
    assert len(published_receipts()) == 1


def test_a_drained_node_costs_neither_night_nor_request(
    served, nodes, api_on_both_nodes, night_on_the_second_node, published_receipts, timeline
):
    with Callers(served, pause=0.2) as callers:
        drain = kubectl(
            "drain", nodes.second, "--delete-emptydir-data", "--force",
            "--ignore-daemonsets", "--timeout=300s",
        )  # fmt: skip
        assert succeeds(*drain)
        timeline("the node is drained")
        publish(night_on_the_second_node, published_receipts)
        timeline("the night is published")
    timeline(f"exit codes {night_on_the_second_node.exit_codes}, {', '.join(callers.figures())}")
    assert callers.lost == []
    # An eviction is no failure of the Job: podFailurePolicy ignores it.
    job = objects.get("job", night_on_the_second_node.name)
    assert not job["status"].get("failed")


def test_a_node_that_goes_away_costs_no_night(
    nodes, night_on_the_second_node, published_receipts, timeline
):
    """The cluster's provider then deletes the Node, as Google's does for a machine that is gone."""
    nodes.lose_second()
    timeline("the node is away")
    wait_until(120, "that it is missed", lambda: not is_ready(nodes.second), 1)
    timeline("it is NotReady")
    time.sleep(10)
    objects.call("delete", "node", nodes.second)
    timeline("its Node is deleted")
    publish(night_on_the_second_node, published_receipts)
    timeline(f"the night is published, exit codes {night_on_the_second_node.exit_codes}")
    timeline(f"RayJobs: {sorted(objects.names('rayjobs', f'storecast/as-of={YESTERDAY}'))}")
    assert RAYJOB in objects.names("rayjobs")


def is_ready(node):
    resource = objects.get("node", node)
    return resource is not None and objects.condition(resource, "Ready")
