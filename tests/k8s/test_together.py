"""The manifests agree with each other and with the code: ports, paths, names, settings."""

import json
import re
import tomllib

import pytest

from api.main import create_app
from api.routes import health, page
from api.settings import ServiceSettings as ApiSettings
from ray_job import settings
from tests.k8s.support.command_line import parse
from tests.k8s.support.manifests import OVERLAYS, ROOT, built, of_kind
from tests.k8s.support.pods import bytes_of, pods, ray_clusters, selects

LOCKED = {
    package["name"]: package["version"]
    for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    if "version" in package
}
every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def api_routes(bucket: str) -> set[str]:
    """The paths of the contract, of the managers' page, and of probes and metrics."""
    described = create_app(ApiSettings(bucket=bucket)).app.openapi()["paths"]
    undescribed = (*page.router.routes, *health.router.routes)
    return {"/openapi.json", *described, *(route.path for route in undescribed)}


@every_overlay
def test_every_command_is_one_of_the_command_line(overlay):
    commands = [
        container["args"]
        for pod in pods(built(overlay))
        if pod.owner.startswith("CronJob/")
        for container in pod.containers
    ]
    assert len(commands) == 5
    for command in commands:
        parse(command)


def test_a_command_that_is_none_would_be_found():
    with pytest.raises(Exception, match="No such command"):
        parse(["storecast", "conquer"])


@every_overlay
def test_accounts_exist_and_rights_are_bound_to_them(overlay):
    accounts = set(of_kind(overlay, "ServiceAccount"))
    roles = set(of_kind(overlay, "Role"))
    used = {pod.spec["serviceAccountName"] for pod in pods(built(overlay))}
    assert used == accounts
    for binding in of_kind(overlay, "RoleBinding").values():
        assert binding["roleRef"]["name"] in roles
        for subject in binding["subjects"]:
            assert subject["name"] in accounts
            assert subject["namespace"] == binding["metadata"]["namespace"] == "storecast"


@every_overlay
def test_only_who_calls_the_cluster_has_a_token(overlay):
    accounts = of_kind(overlay, "ServiceAccount")
    for pod in pods(built(overlay)):
        service_account = accounts[pod.spec["serviceAccountName"]]
        mounted = pod.spec.get(
            "automountServiceAccountToken",
            service_account.get("automountServiceAccountToken", True),
        )
        calls = pod.owner.endswith(("/head", "CronJob/storecast-nightly"))
        assert mounted == calls, pod.owner


@every_overlay
def test_config_maps_exist_and_hold_settings_that_the_code_accepts(overlay, monkeypatch):
    maps = of_kind(overlay, "ConfigMap")
    used = {
        source["configMapRef"]["name"]
        for pod in pods(built(overlay))
        for container in pod.containers
        for source in container.get("envFrom", [])
    }
    assert used == set(maps)
    job = maps["storecast-settings"]["data"]
    (api,) = (
        resource["data"] for name, resource in maps.items() if name.startswith("storecast-api")
    )
    for name, value in {**job, **api}.items():
        monkeypatch.setenv(name, value)
    known = {f"STORECAST_{field.upper()}" for field in settings.Settings.model_fields}
    assert set(job) <= known
    assert settings.load(None).bucket == job["STORECAST_BUCKET"]
    known = {f"STORECAST_API_{field.upper()}" for field in ApiSettings.model_fields}
    assert set(api) <= known
    assert ApiSettings.load().bucket == api["STORECAST_API_BUCKET"]


def test_the_probes_and_the_port_are_the_api_s(tmp_path):
    routes = api_routes(str(tmp_path))
    (pod,) = (pod for pod in pods(built("prod")) if pod.owner.startswith("Deployment/"))
    (container,) = pod.containers
    port, probe_port = container["ports"]
    probes = {
        container[probe]["httpGet"]["path"]: container[probe]["httpGet"]["port"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert set(probes) == {"/startupz", "/livez", "/readyz"} <= routes
    assert set(probes.values()) == {probe_port["name"]}
    for name, resource in of_kind("prod", "ConfigMap").items():
        if name.startswith("storecast-api"):
            data = resource["data"]
            assert data["STORECAST_API_PORT"] == str(port["containerPort"])
            assert data["STORECAST_API_PROBE_PORT"] == str(probe_port["containerPort"])
            # The server finishes requests for 30 s at most after it has drained.
            grace = pod.spec["terminationGracePeriodSeconds"]
            assert float(data["STORECAST_API_DRAIN_SECONDS"]) + 30 < grace
    (service,) = of_kind("prod", "Service").values()
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    (monitoring,) = of_kind("prod", "PodMonitoring").values()
    (endpoint,) = monitoring["spec"]["endpoints"]
    assert endpoint["port"] == probe_port["name"]
    assert endpoint["path"] in routes
    (health,) = of_kind("prod", "HealthCheckPolicy").values()
    check = health["spec"]["default"]["config"]["httpHealthCheck"]
    assert check == {"port": port["containerPort"], "requestPath": "/readyz"}


def test_the_gateway_routes_what_the_api_answers_and_no_metrics(tmp_path):
    (route,) = of_kind("prod", "HTTPRoute").values()
    (rule,) = route["spec"]["rules"]
    prefixes = tuple(
        match["path"]["value"] for match in rule["matches"] if match["path"]["type"] == "PathPrefix"
    )
    exact = {
        match["path"]["value"] for match in rule["matches"] if match["path"]["type"] == "Exact"
    }
    inside = {"/metrics", "/livez", "/readyz", "/startupz"}
    for path in api_routes(str(tmp_path)):
        assert (path.startswith(prefixes) or path in exact) == (path not in inside), path
    (backend,) = rule["backendRefs"]
    service = of_kind("prod", "Service")[backend["name"]]
    assert backend["port"] in {port["port"] for port in service["spec"]["ports"]}
    (parent,) = route["spec"]["parentRefs"]
    gateway = of_kind("prod", "Gateway")[parent["name"]]
    assert parent["sectionName"] in {listener["name"] for listener in gateway["spec"]["listeners"]}
    for kind in ("GCPBackendPolicy", "HealthCheckPolicy"):
        (policy,) = of_kind("prod", kind).values()
        assert policy["spec"]["targetRef"]["name"] in of_kind("prod", "Service")
    (backend_policy,) = of_kind("prod", "GCPBackendPolicy").values()
    assert backend_policy["spec"]["default"]["iap"] == {"enabled": True}


@every_overlay
def test_selectors_select_something(overlay):
    all_labels = [pod.labels for pod in pods(built(overlay))]
    selectors = []
    for resource in built(overlay):
        spec = resource.get("spec", {})
        match resource["kind"]:
            case "Service":
                selectors.append({"matchLabels": spec["selector"]})
            case "Deployment" | "PodDisruptionBudget" | "PodMonitoring":
                selectors.append(spec["selector"])
            case "NetworkPolicy" if spec["podSelector"]:
                selectors.append(spec["podSelector"])
            case "HorizontalPodAutoscaler":
                assert spec["scaleTargetRef"]["name"] in of_kind(overlay, "Deployment")
    assert len(selectors) >= 8
    for selector in selectors:
        assert any(selects(selector, labels) for labels in all_labels), selector


@every_overlay
def test_images_are_ours_and_versions_are_the_lock_s(overlay):
    for pod in pods(built(overlay)):
        expected = "storecast-api" if pod.owner.startswith("Deployment/") else "storecast-job"
        for container in pod.containers:
            assert container["image"].split(":")[0] == expected
    for owner, cluster in ray_clusters(built(overlay)):
        assert cluster["rayVersion"] == LOCKED["ray"], owner


def test_the_image_has_the_python_and_the_uv_that_the_project_asks_for():
    text = (ROOT / "Dockerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "FROM python:3.11-slim-bookworm" in text
    assert project["project"]["requires-python"] == ">=3.11"
    assert re.search(r"uv==0\.(\d+)\.", text)
    assert "PYTHONDONTWRITEBYTECODE=" not in text


@every_overlay
def test_pods_are_confined(overlay):
    for pod in pods(built(overlay)):
        security = pod.spec["securityContext"]
        assert security["runAsNonRoot"] is True, pod.owner
        assert security["runAsUser"] == 10001
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod.containers:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] is True, pod.owner
            assert own["allowPrivilegeEscalation"] is False
            assert own["capabilities"] == {"drop": ["ALL"]}
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert mounts["tmp"] == "/tmp"  # noqa: S108 - the mount is the point
            assert set(mounts) <= {volume["name"] for volume in pod.spec["volumes"]}


@every_overlay
def test_memory_is_reserved_whole_and_disks_fit_autopilot(overlay):
    for pod in pods(built(overlay)):
        disk = 0
        for container in pod.containers:
            requests, limits = container["resources"]["requests"], container["resources"]["limits"]
            assert requests["memory"] == limits["memory"], pod.owner
            # Ray, OpenMP and DuckDB take the CPU limit, and the whole node's CPUs without one.
            works = pod.owner.split("/")[-1] not in {
                "submitter",
                "storecast-nightly",
                "storecast-api",
            }
            assert limits.get("cpu") == (requests["cpu"] if works else None), pod.owner
            disk += bytes_of(requests["ephemeral-storage"])
        if pod.owner.endswith("/head"):
            disk += bytes_of("1Gi")  # the autoscaler's, which KubeRay adds
        assert disk <= bytes_of("10Gi"), pod.owner


def test_a_cronjob_s_jobs_cannot_have_a_rayjob_s_name():
    ours = re.compile(r"storecast-(\d{8}(-\d)?|adhoc-\d{8}-\d{6}-[a-z0-9]{4})")
    for name in of_kind("prod", "CronJob"):
        assert not ours.fullmatch(f"{name}-29838240")
    assert ours.fullmatch("storecast-29838240"), "a CronJob named storecast would collide"


def test_the_api_s_issuer_is_identity_aware_proxy():
    (config_map,) = (
        resource
        for name, resource in of_kind("prod", "ConfigMap").items()
        if name.startswith("storecast-api")
    )
    (issuer,) = json.loads(config_map["data"]["STORECAST_API_ISSUERS"])
    assert issuer["issuer"] == "https://cloud.google.com/iap"
    assert issuer["header"] == "x-goog-iap-jwt-assertion"
