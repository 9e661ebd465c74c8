"""The project on the cluster: its images, its manifests by k8s/gcp/apply, a bucket with a chain."""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import jwt
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.cluster.places import BIN, BUCKET, CACHE, HERE, KUBECONFIG, NAMESPACE, ROOT, STATE
from tests.cluster.processes import start

IAP_AUDIENCE = "/projects/1/global/backendServices/2"
_IAP_KEY = STATE / "iap.json"
_GCP = ROOT / "k8s" / "gcp"
ARCHIVES = CACHE / "archives"
SEED = CACHE / "bucket"
"""A bucket before its newest night, made once a day."""


def build_images() -> dict[str, Path]:
    """Archives of the project's images by their target, built from the present sources.

    BUILD_OPTIONS, as of `make image`: for example the certificates of a proxy.
    """
    options = shlex.split(os.environ.get("BUILD_OPTIONS", ""))
    archives = {}
    for target in ("job", "api"):
        name = f"localhost/storecast-cluster:{target}"
        place = ["--network=host", f"--target={target}", f"--tag={name}", ROOT]
        built = _podman("build", *options, *place)
        if built.returncode:
            raise RuntimeError(
                f"podman cannot build the image {target} (`make image` shows it whole): "
                f"{(built.stdout + built.stderr)[-1500:]}"
            )
        archives[target] = archive(name)
    return archives


def build_system_image(kuberay: str) -> Path:
    """DNS and KubeRay's operator of that version, from the cluster's programs."""
    recipe = f"FROM scratch\nCOPY coredns /coredns\nCOPY kuberay-{kuberay} /kuberay\n"
    return _from_scratch("localhost/system:1", recipe)


def build_pause_image() -> Path:
    """What holds a pod's namespaces."""
    return _from_scratch(
        "localhost/pause:1", 'FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n'
    )


def _from_scratch(name: str, recipe: str) -> Path:
    with tempfile.NamedTemporaryFile("w", suffix=".containerfile") as file:
        file.write(recipe)
        file.flush()
        built = _podman("build", f"--file={file.name}", f"--tag={name}", BIN)
        if built.returncode:
            raise RuntimeError(f"podman cannot build {name}: {built.stderr[-1500:]}")
    return archive(name)


def archive(name: str) -> Path:
    """The image as a file, written anew where the image has changed."""
    ARCHIVES.mkdir(parents=True, exist_ok=True)
    digest = json.loads(_podman("image", "inspect", name).stdout)[0]["Id"][:16]
    stem = name.replace("/", "-").replace(":", "-")
    path = ARCHIVES / f"{stem}-{digest}.tar"
    if not path.exists():
        for old in ARCHIVES.glob(f"{stem}-*.tar"):
            old.unlink()
        saved = _podman("save", f"--output={path}", name)
        if saved.returncode:
            raise RuntimeError(f"podman cannot save {name}: {saved.stderr[-500:]}")
    return path


def _podman(*arguments: object) -> subprocess.CompletedProcess[str]:
    """podman, with settings for a machine without systemd, unless others are given."""
    settings = CACHE / "containers.conf"
    if not settings.exists():
        kinds = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
        hard = {name: min(resource.getrlimit(kind)[1], 20000) for name, kind in kinds.items()}
        limits = [f"{name}={limit}:{limit}" for name, limit in hard.items() if limit > 0]
        settings.write_text(
            f'[containers]\ndefault_ulimits = {json.dumps(limits)}\nnetns = "host"\n[engine]\n'
            'cgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "runc"\n'
        )
    return subprocess.run(
        ["podman", *map(str, arguments)],
        env={"CONTAINERS_CONF": str(settings), **os.environ},
        check=False,
        capture_output=True,
        text=True,
    )


def write_overlay(
    overlay: str,
    *,
    images: tuple[str, str] = (
        "localhost/storecast-cluster:job",
        "localhost/storecast-cluster:api",
    ),
    audience: str = IAP_AUDIENCE,
    k8s: Path = ROOT / "k8s",
) -> Path:
    """The folder that k8s/gcp/apply takes: the live overlay over an overlay and `one-node`."""
    folder = STATE / "overlay"
    shutil.rmtree(folder, ignore_errors=True)
    small, live = folder / "small", folder / "live"
    small.mkdir(parents=True)
    keys = {"keys": [iap_signer()[0]]}
    document: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": [os.path.relpath(k8s / "overlays" / overlay, small)],
        "components": [os.path.relpath(HERE / "one-node", small)],
        "configMapGenerator": [
            {
                "name": "iap-keys",
                "literals": [f"keys.json={json.dumps(keys)}"],
                "options": {"disableNameSuffixHash": True},
            }
        ],
    }
    (small / "kustomization.yaml").write_text(yaml.safe_dump(document))
    digest = "sha256:" + "0" * 64
    subprocess.run(
        [
            _GCP / "overlay",
            os.path.relpath(small, ROOT / "k8s" / "overlays"),
            live,
            f"job@{digest}",
            f"api@{digest}",
            f"STORECAST_BUCKET=gs://{BUCKET}",
            "STORECAST_TIME_ZONE=Europe/Berlin",
            "STORECAST_COUNTRY=DE",
            "STORECAST_DEADLINE=06:00",
            audience,
        ],
        check=True,
    )
    # Local images have names and tags instead of digests.
    path = live / "kustomization.yaml"
    kustomization = yaml.safe_load(path.read_text())
    for image, name in zip(kustomization["images"], images, strict=True):
        del image["digest"]
        image["newName"], _, image["newTag"] = name.rpartition(":")
    path.write_text(yaml.safe_dump(kustomization, sort_keys=False))
    return live


def apply(folder: Path) -> subprocess.CompletedProcess[str]:
    """k8s/gcp/apply, as setup calls it. Runs inside the namespaces."""
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "KUBECONFIG": str(KUBECONFIG),
    }
    return subprocess.run(
        [_GCP / "apply", folder], env=environment, check=False, capture_output=True, text=True
    )


def iap_signer() -> tuple[dict[str, Any], str]:
    """The public key as a JWK, and the private key as PEM, of the stand-in for IAP's signer."""
    if not _IAP_KEY.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        public = json.loads(ECAlgorithm.to_jwk(key.public_key()))
        private = ECAlgorithm.to_jwk(key)
        jwk = {**public, "kid": "one-node", "alg": "ES256", "use": "sig"}
        _IAP_KEY.write_text(json.dumps([jwk, private]))
    public, private = json.loads(_IAP_KEY.read_text())
    return public, private


def iap_token(email: str, now: float, audience: str = IAP_AUDIENCE) -> str:
    """What Identity-Aware Proxy puts into the header of a manager's request."""
    claims = {
        "iss": "https://cloud.google.com/iap",
        "aud": audience,
        "sub": f"accounts.google.com:{email}",
        "email": email,
        "iat": int(now) - 10,
        "exp": int(now) + 600,
    }
    key = ECAlgorithm.from_jwk(iap_signer()[1])
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": "one-node"})


def start_storage() -> None:
    """The fake Cloud Storage with the chain, for a cluster that stays up without tests."""
    host, port = "10.244.0.2", 443
    start(
        "storage",
        [
            ROOT / ".venv" / "bin" / "python",
            "-m",
            "tests.fake_gcs",
            f"--host={host}",
            f"--port={port}",
            f"--bucket={BUCKET}",
            f"--directory={SEED}",
        ],
    )
