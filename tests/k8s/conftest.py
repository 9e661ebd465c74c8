"""The fake cluster with the template, the submitter's rights and an operator; gcloud's parser."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from ray_job import settings
from ray_job.bucket.storage.directory import DirectoryStorage
from ray_job.submit import rayjob, submit
from tests.fake_kubernetes.objects import Place
from tests.fake_kubernetes.server import FakeKubernetes
from tests.k8s.support import kuberay
from tests.k8s.support.manifests import K8S, TEMPLATE, read
from tests.k8s.support.submissions import FAST, NAMESPACE, NIGHT, NOW, rayjob_place, rayjobs


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


@pytest.fixture
def receipt_storage(tmp_path):
    """A bucket that is empty until a test leaves a receipt in it."""
    (tmp_path / "bucket").mkdir()
    return DirectoryStorage.open(tmp_path / "bucket")


@pytest.fixture
def submit_night(kubeconfig, receipt_storage):
    """Calls `submit` for NIGHT and waits, unless its arguments are replaced."""

    def call(**changes):
        defaults = {"as_of": NIGHT, "wait": True, "adhoc": False, "now": NOW, "pace": FAST}
        return submit(settings.load(None), lambda: receipt_storage, **{**defaults, **changes})

    return call


@pytest.fixture
def operator(fake):
    """Acts as KubeRay: gives each new RayJob the statuses, one after the other."""
    threads = []
    ended = threading.Event()

    def start(*statuses, before=lambda _name: None):
        handled = rayjobs(fake) | {rayjob.TEMPLATE}

        def operate():
            while not ended.wait(0.01):
                for resource in fake.objects.list("rayjobs.ray.io", NAMESPACE):
                    name = resource["metadata"]["name"]
                    if name in handled:
                        continue
                    handled.add(name)
                    before(name)
                    for status in statuses:
                        fake.objects.set_status(rayjob_place(name), status)

        thread = threading.Thread(target=operate)
        thread.start()
        threads.append(thread)

    yield start
    ended.set()
    for thread in threads:
        thread.join()


class ScriptRunner:
    """Runs setup and teardown in a copy of k8s/, with fakes of the programs that they call."""

    def __init__(self, folder):
        self.gcp = folder / "k8s" / "gcp"
        self._programs = folder / "programs"
        if self._programs.exists():
            return
        shutil.copytree(K8S, folder / "k8s")
        self._programs.mkdir()
        source = (Path(__file__).parent / "support" / "fake_gcloud.py").read_text()
        for name in ("gcloud", "kubectl", "helm", "podman"):
            (self._programs / name).write_text(f"#!{sys.executable} -IS\n{source}")
            (self._programs / name).chmod(0o755)

    def settings(self, **changes):
        """The options that name a settings file with these changes."""
        path = self.gcp / "mine.env"
        path.write_text((self.gcp / "settings.env").read_text())
        with path.open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in changes.items())
        return "--settings", str(path)

    def run(self, script, *options, kuberay="v1.6.2", fresh="", **process):
        """The finished process; `fresh` names what fails once, as what was just made does."""
        definition = Path(__file__).parent / "schemas" / f"rayjob-{kuberay}.schema.json.gz"
        return subprocess.run(
            [self.gcp / script, *options],
            env={
                **os.environ,
                "PATH": f"{self._programs}:{os.environ['PATH']}",
                "FAKE_CRD": str(definition),
                "FAKE_FRESH": fresh,
                "PAUSE": "0",
            },
            check=False,
            text=True,
            timeout=120,
            **{"capture_output": True, **process},
        )

    def __call__(self, script, *options, **how):
        """The calls of a script that succeeds, each with its program first."""
        process = self.run(script, *options, **how)
        assert process.returncode == 0, process.stdout[-2000:] + process.stderr
        return self.calls()

    def calls(self):
        """The calls since the last time."""
        path = self._programs / "calls"
        calls = [json.loads(line) for line in path.read_text().splitlines()]
        path.unlink()
        return calls

    def delete(self, group):
        """Take the resources of a group away, as somebody else does."""
        rest = [line for line in self.state() if not line.startswith(f"{group}: ")]
        (self._programs / "state").write_text("".join(f"{line}\n" for line in rest))

    def grant(self, *grant):
        """Grant a role in the bucket, as somebody else does."""
        (self._programs / "grants").write_text(json.dumps([*self.grants(), grant]))

    def state(self):
        return set((self._programs / "state").read_text().splitlines())

    def grants(self):
        """(member, role, condition) of each grant in the bucket."""
        return [tuple(grant) for grant in json.loads((self._programs / "grants").read_text())]


@pytest.fixture
def run_script(tmp_path):
    return ScriptRunner(tmp_path)


@pytest.fixture(scope="session")
def set_up_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set-up")
    ScriptRunner(folder)("setup")
    return folder


@pytest.fixture
def installed(set_up_once, tmp_path):
    """A `run_script` on a project that setup has been run on."""
    shutil.copytree(set_up_once, tmp_path, dirs_exist_ok=True)
    return ScriptRunner(tmp_path)
