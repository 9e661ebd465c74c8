"""Which pods reach which: the network policies, evaluated for all pods."""

from itertools import chain

import pytest

from tests.k8s.support.manifests import OVERLAYS, built, of_kind
from tests.k8s.support.pods import Pod, pods, selects

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)
OPERATOR = {
    "namespaces kubernetes.io/metadata.name=gke-managed-system",
    "namespaces kubernetes.io/metadata.name=kube-system",
    "namespaces any pods app.kubernetes.io/name=kuberay-operator",
}


def _description(peer):
    if "ipBlock" in peer:
        return f"addresses {peer['ipBlock']['cidr']}"
    parts = []
    for key, name in (("namespaceSelector", "namespaces"), ("podSelector", "pods")):
        if key in peer:
            labels = peer[key].get("matchLabels", {})
            selected = ",".join(f"{label}={value}" for label, value in sorted(labels.items()))
            parts += [name, selected or "any"]
    return " ".join(parts)


def reaching(overlay: str, pod: Pod, port: int) -> set[str]:
    """The peers that the policies allow to connect to a pod's port."""
    rules = chain.from_iterable(
        policy["spec"].get("ingress", [])
        for policy in of_kind(overlay, "NetworkPolicy").values()
        if selects(policy["spec"]["podSelector"], pod.labels)
        and "Ingress" in policy["spec"]["policyTypes"]
    )
    return {
        _description(peer)
        for rule in rules
        if "ports" not in rule or port in {entry["port"] for entry in rule["ports"]}
        for peer in rule["from"]
    }


@every_overlay
def test_nothing_is_open_by_default(overlay):
    deny = of_kind(overlay, "NetworkPolicy")["deny-all"]["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@every_overlay
def test_a_ray_head_is_reached_by_its_own_and_on_8265_by_those_who_submit(overlay):
    heads = [pod for pod in pods(built(overlay)) if pod.owner.endswith("/head")]
    assert heads
    for head in heads:
        component = head.labels["app.kubernetes.io/component"]
        itself = f"pods app.kubernetes.io/component={component}"
        for port in (6379, 10001, 8080):
            assert reaching(overlay, head, port) == {itself}
        submitter = {"pods app.kubernetes.io/component=ray-submitter"}
        allowed = {itself} | OPERATOR | (submitter if component == "ray" else set())
        assert reaching(overlay, head, 8265) == allowed


@every_overlay
def test_workers_and_jobs_are_reached_by_nobody_else(overlay):
    for pod in pods(built(overlay)):
        component = pod.labels["app.kubernetes.io/component"]
        if pod.owner.endswith(("/head", "/storecast-api")):
            continue
        itself = {f"pods app.kubernetes.io/component={component}"}
        expected = itself if component.endswith("ray") else set()
        assert reaching(overlay, pod, 8265) == expected, pod.owner
        assert reaching(overlay, pod, 6379) == expected, pod.owner


@every_overlay
def test_the_api_is_reached_by_the_load_balancer_and_the_collector(overlay):
    (api,) = (pod for pod in pods(built(overlay)) if pod.owner.endswith("/storecast-api"))
    assert reaching(overlay, api, 8080) == {
        "addresses 35.191.0.0/16",
        "addresses 130.211.0.0/22",
    }
    assert reaching(overlay, api, 8081) == {
        "namespaces kubernetes.io/metadata.name=gke-gmp-system",
        "namespaces kubernetes.io/metadata.name=gmp-system",
    }
    assert reaching(overlay, api, 9090) == set()


@every_overlay
def test_every_pod_gets_out_to_names_metadata_and_google(overlay):
    (policy,) = (
        resource for name, resource in of_kind(overlay, "NetworkPolicy").items() if name == "google"
    )
    for pod in pods(built(overlay)):
        assert selects(policy["spec"]["podSelector"], pod.labels), pod.owner
    open_to = {
        (peer["ipBlock"]["cidr"], port["port"])
        for rule in policy["spec"]["egress"]
        for peer in rule["to"]
        if "ipBlock" in peer
        for port in rule["ports"]
    }
    assert {("169.254.169.254/32", 80), ("169.254.169.252/32", 988), ("0.0.0.0/0", 443)} <= open_to
    assert {port for address, port in open_to if address == "0.0.0.0/0"} == {443}
