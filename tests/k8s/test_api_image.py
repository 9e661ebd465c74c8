"""The API's image, by itself and as the Deployment has it."""

import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import httpx
import pytest
import yaml

from tests.api.fixtures.bucket import ZONE, Bucket, StoreSpec
from tests.api.fixtures.tokens import AUDIENCE, ISSUER, bearer, key_set, token, write_grants
from tests.k8s.support.containers import (
    free_port,
    image,
    inspected,
    podman,
    run,
    running,
    wait_for,
)
from tests.k8s.support.manifests import of_kind

LARGEST = 400_000_000


@pytest.fixture(scope="module")
def api_image(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield image("api", tmp_path_factory.mktemp("podman"), patch)


@pytest.fixture
def mounted(tmp_path):
    """A folder with a bucket that is fresh today, and the keys that sign the tokens."""
    as_of = datetime.now(ZoneInfo(ZONE)).date() - timedelta(days=1)
    bucket = Bucket.make(tmp_path / "bucket")
    bucket.publish([StoreSpec("17", as_of=as_of, data_through=as_of)], as_of=as_of)
    write_grants(
        bucket.storage,
        {"issuer": ISSUER, "subject": "anna", "stores": ["17"], "role": "manager"},
    )
    (tmp_path / "keys.json").write_bytes(key_set("k1"))
    for path in (tmp_path, *tmp_path.parents, *tmp_path.rglob("*")):
        if path.owner() == tmp_path.owner():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
    return tmp_path


def settings(port):
    issuer = {"issuer": ISSUER, "jwks": "file:///live/keys.json", "audience": AUDIENCE}
    return {
        "STORECAST_API_BUCKET": "/live/bucket",
        "STORECAST_API_PORT": str(port),
        "STORECAST_API_ISSUERS": json.dumps([issuer]),
    }


def check_answers(port, diagnosis):
    address = f"http://127.0.0.1:{port}"
    assert wait_for(f"{address}/readyz", diagnosis).json()["ready"] is True
    path = f"{address}/v1/stores/17/forecast"
    assert httpx.get(path).status_code == 401
    forecast = httpx.get(path, headers=bearer(token(now=datetime.now(UTC))))
    assert forecast.status_code == 200, forecast.text
    assert len(forecast.json()["days"]) == 7
    assert httpx.get(f"{address}/livez").status_code == 200
    assert httpx.get(f"{address}/page.css").status_code == 200, "files beside the code are there"
    assert "storecast_api_ready 1.0" in httpx.get(f"{address}/metrics").text


def test_it_is_small_and_has_no_ray(api_image):
    assert inspected(api_image)["Size"] < LARGEST
    names = "('ray', 'sklearn', 'deltalake', 'ray_job.nightly.run')"
    absent = f"import importlib.util as u; print([n for n in {names} if u.find_spec(n)])"
    assert run(api_image, "python", "-c", absent).stdout.strip() == "[]"


def test_it_is_labelled_and_not_root(api_image):
    config = inspected(api_image)["Config"]
    assert config["User"] == "10001:10001"
    assert config["Labels"]["org.opencontainers.image.title"] == "storecast"
    assert "org.opencontainers.image.revision" in config["Labels"]
    assert "PYTHONDONTWRITEBYTECODE" not in " ".join(config["Env"])
    assert run(api_image, "id", "-u").stdout.strip() == "10001"
    assert run(api_image, "touch", "/opt/venv/x", check=False).returncode != 0


def test_it_answers_read_only_and_stops_when_told(api_image, mounted):
    port = free_port()
    options = (f"--volume={mounted}:/live:ro",)
    for name, value in settings(port).items():
        options += (f"--env={name}={value}",)
    with running(api_image, options=options) as container:
        check_answers(port, lambda: podman("logs", container, check=False).stderr)
        podman("stop", "--time=30", container)
        state = json.loads(podman("container", "inspect", container).stdout)[0]["State"]
        assert state["ExitCode"] == 0


def test_the_deployment_answers(api_image, mounted, tmp_path):
    """The Deployment of kustomize, with the local image, bucket, keys and port."""
    port = free_port()
    (deployment,) = of_kind("prod", "Deployment").values()
    deployment = json.loads(json.dumps(deployment))
    (config_map,) = (
        resource
        for name, resource in of_kind("prod", "ConfigMap").items()
        if name.startswith("storecast-api")
    )
    config_map = {**config_map, "data": {**config_map["data"], **settings(port)}}
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    container["image"] = api_image
    container["imagePullPolicy"] = "Never"
    spec["hostNetwork"] = True
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        del container[probe]  # podman would call curl inside of the container
    del container["ports"]  # the network is the machine's
    container["volumeMounts"].append({"name": "live", "mountPath": "/live", "readOnly": True})
    spec["volumes"].append({"name": "live", "hostPath": {"path": str(mounted)}})
    manifest = tmp_path / "played.yaml"
    manifest.write_text(yaml.safe_dump_all([config_map, deployment]))
    started = podman("kube", "play", "--network=host", manifest, check=False)
    try:
        assert started.returncode == 0, started.stderr
        check_answers(port, lambda: podman("pod", "ps").stdout)
    finally:
        podman("kube", "down", manifest, check=False)
