"""The job's image: the demo, and a night on a containerised Ray head that wants its token."""

import json

import httpx
import pytest

from ray_job.bucket import receipts
from ray_job.bucket.storage.directory import DirectoryStorage
from tests.k8s.support import nights
from tests.k8s.support.containers import image, inspected, podman, run, running, wait_for

SHARED_MEMORY = "--shm-size=1g"
NAME = f"storecast-{nights.YESTERDAY:%Y%m%d}"


def options(**environment):
    return tuple(f"--env={name}={value}" for name, value in environment.items())


@pytest.fixture(scope="module")
def job_image(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield image("job", tmp_path_factory.mktemp("podman"), patch)


def test_it_is_ready_for_kuberay(job_image):
    config = inspected(job_image)["Config"]
    assert config["User"] == "10001:10001"
    assert config["Labels"]["org.opencontainers.image.title"] == "storecast"
    assert "PYTHONDONTWRITEBYTECODE" not in " ".join(config["Env"])
    script = "id -u; for name in bash wget ray storecast; do command -v $name; done"
    user, *programs = run(job_image, "sh", "-c", script).stdout.splitlines()
    assert user == "10001"
    assert [path.rpartition("/")[2] for path in programs] == ["bash", "wget", "ray", "storecast"]
    login = run(job_image, "bash", "-lc", "command -v ray storecast && ray --version").stdout
    assert login.splitlines()[:2] == ["/usr/local/bin/ray", "/usr/local/bin/storecast"]
    assert run(job_image, "touch", "/opt/venv/x", check=False).returncode != 0


def test_it_is_byte_compiled(job_image):
    script = (
        "import importlib.util as u, pathlib, ray, ray_job;"
        "folders = [pathlib.Path(module.__file__).parent for module in (ray, ray_job)];"
        "files = [str(path) for folder in folders for path in folder.glob('*.py')];"
        "print([name for name in files if not pathlib.Path(u.cache_from_source(name)).exists()])"
    )
    assert run(job_image, "python", "-c", script).stdout.strip() == "[]"


@pytest.mark.timeout(1200)
def test_the_demo_runs_read_only_and_not_as_root(job_image):
    small = options(STORECAST_TRAINING__ROWS=20_000)
    process = run(job_image, "storecast", "demo", "--json", options=(SHARED_MEMORY, *small))
    document = json.loads(process.stdout)
    assert document["published"] is True, document
    assert document["stores"]["failed"] == 0


def open_to_all(folder):
    """The container runs as another user."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777)


@pytest.mark.timeout(1200)
def test_a_head_with_a_token_runs_a_night_that_has_a_poisoned_store(job_image, tmp_path):
    bucket = nights.make_bucket(tmp_path)
    nights.poison(bucket, "s005")
    open_to_all(tmp_path)
    tmp_path.parent.chmod(0o755)
    tmp_path.parent.parent.chmod(0o755)
    command, address = nights.head_command()
    variables = options(
        STORECAST_BUCKET="/live/bucket", STORECAST_SUBMISSION=NAME, **nights.SIGNED_IN
    )
    mount = f"--volume={tmp_path}:/live"
    with running(job_image, *command, options=(SHARED_MEMORY, mount, *variables)) as container:
        headers = {"Authorization": f"Bearer {nights.TOKEN}"}

        def log():
            logs = podman("logs", container, check=False)
            return logs.stdout + logs.stderr

        wait_for(f"{address}/api/version", log, headers=headers)
        assert httpx.get(f"{address}/api/jobs/").status_code == 401
        submit = nights.nightly_command(address)
        unauthorised = run(
            job_image,
            *submit,
            options=options(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=nights.WRONG_TOKEN),
            check=False,
        )
        assert unauthorised.returncode != 0
        assert httpx.get(f"{address}/api/jobs/", headers=headers).json() == []
        signed_in = options(**nights.SIGNED_IN)
        result = nights.submitted(lambda: run(job_image, *submit, options=signed_in, check=False))
        assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-2000:]
    (receipt,) = receipts.of_night(DirectoryStorage.open(bucket), nights.YESTERDAY)
    # The driver ended with 0, so KubeRay runs nothing again; the receipt has the night's own code.
    assert receipt.submission == NAME
    assert (receipt.status, receipt.exit_code) == ("published_with_failures", 4)
    assert [failure.store_id for failure in receipt.failures] == ["s005"]
    assert receipt.stores.expected == 12
