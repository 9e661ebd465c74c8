"""The project on the cluster: its manifests by k8s/gcp/apply, a bucket with a chain."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import jwt
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.cluster import images, objects
from tests.cluster.places import (
    BIN,
    BUCKET,
    CACHE,
    HERE,
    KUBECONFIG,
    NAMESPACE,
    ROOT,
    STATE,
    storage,
)
from tests.cluster.processes import start

MANAGER = "manager@example.com"
IAP_AUDIENCE = "/projects/1/global/backendServices/2"
_IAP_KEYS = "https://www.gstatic.com/iap/verify/public_key-jwk"
_STAND_IN_KEYS = "file:///etc/iap/keys.json"
"""Where `one-node` mounts the key of the stand-in for IAP's signer."""
_IAP_KEY = STATE / "iap.json"
_HTTPS = 443
"""The port to which the project's policies let pods out."""
_GCP = ROOT / "k8s" / "gcp"
SEED = CACHE / "bucket"
"""A bucket before its newest night, made once a day."""


def write_overlay(
    overlay: str,
    *,
    suffix: str = "",
    audience: str = IAP_AUDIENCE,
    k8s: Path = ROOT / "k8s",
) -> Path:
    """The folder that k8s/gcp/apply takes: the live overlay over an overlay and `one-node`.

    `k8s` has the manifests, and `suffix` is that of the tags of their images.
    """
    folder = STATE / "overlay"
    shutil.rmtree(folder, ignore_errors=True)
    small, live = folder / "small", folder / "live"
    small.mkdir(parents=True)
    keys = {"keys": [iap_signer()[0]]}
    host, port = storage()
    address = [f"STORAGE_EMULATOR_HOST=http://{host}:{port}"]
    document: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": [os.path.relpath(k8s / "overlays" / overlay, small), *_policies(small)],
        "components": [os.path.relpath(HERE / "one-node", small)],
        "configMapGenerator": [
            {
                "name": "iap-keys",
                # Its name follows from the key: pods with an earlier run's key are replaced.
                "literals": [f"keys.json={json.dumps(keys)}"],
            },
            {
                "name": "storecast-settings",
                "behavior": "merge",
                "literals": address,
                "options": {"disableNameSuffixHash": True},
            },
            {"name": "storecast-api", "behavior": "merge", "literals": address},
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
            "STORECAST_TIME_ZONE=Etc/UTC",
            "STORECAST_COUNTRY=DE",
            "STORECAST_DEADLINE=06:00",
            audience,
        ],
        check=True,
    )
    # Local images have names and tags instead of digests.
    path = live / "kustomization.yaml"
    kustomization = yaml.safe_load(path.read_text())
    for image, target in zip(kustomization["images"], ("job", "api"), strict=True):
        del image["digest"]
        image["newName"], _, image["newTag"] = images.name(target, suffix).rpartition(":")
    for generator in kustomization["configMapGenerator"]:
        generator["literals"] = [
            literal.replace(_IAP_KEYS, _STAND_IN_KEYS) for literal in generator["literals"]
        ]
    path.write_text(yaml.safe_dump(kustomization, sort_keys=False))
    return live


def _policies(folder: Path) -> list[str]:
    """The file, in that folder, that lets pods out to the API server's port; none if it is 443."""
    host, port = objects.api_server()
    if port == _HTTPS:
        return []
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "api-server"},
        "spec": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/part-of": "storecast"}},
            "policyTypes": ["Egress"],
            "egress": [
                {
                    "to": [{"ipBlock": {"cidr": f"{host}/32"}}],
                    "ports": [{"protocol": "TCP", "port": port}],
                }
            ],
        },
    }
    (folder / "api-server.yaml").write_text(yaml.safe_dump(policy))
    return ["api-server.yaml"]


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


def signed_in(email: str = MANAGER, *, audience: str = IAP_AUDIENCE) -> dict[str, str]:
    """The header with which Identity-Aware Proxy passes a request on."""
    return {"x-goog-iap-jwt-assertion": iap_token(email, time.time(), audience)}


def start_storage() -> None:
    """The fake Cloud Storage with the chain, for a cluster that stays up without tests."""
    host, port = storage()
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
