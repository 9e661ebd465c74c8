"""The fake cluster with the template applied, and the rights that our Role grants the submitter."""

import pytest
import yaml

from tests.fake_kubernetes.objects import Place
from tests.fake_kubernetes.server import FakeKubernetes
from tests.k8s import kuberay
from tests.k8s.manifests import K8S, TEMPLATE, read

NAMESPACE = "storecast"


@pytest.fixture
def fake():
    server = FakeKubernetes(lambda resource: kuberay.problems(resource, "v1.5.1"))
    template = yaml.safe_load(TEMPLATE.read_text())
    server.objects.create(
        Place("rayjobs.ray.io", NAMESPACE, template["metadata"]["name"]), template
    )
    accounts = read(K8S / "base" / "job" / "accounts.yaml")
    server.rules = next(
        resource["rules"]
        for resource in accounts
        if resource["kind"] == "Role" and resource["metadata"]["name"] == "storecast-submitter"
    )
    with server.serve():
        yield server


@pytest.fixture
def kubeconfig(fake, tmp_path, monkeypatch):
    path = fake.write_kubeconfig(tmp_path / "kubeconfig", NAMESPACE)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    monkeypatch.setenv("KUBECONFIG", str(path))
    for name in ("STORECAST_JOB_NAME", "STORECAST_NAMESPACE", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    return path
