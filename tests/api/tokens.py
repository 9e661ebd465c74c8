"""Issuers of the tests' own: real keys, real tokens, and key sets over HTTP that count requests."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from api.settings import Issuer
from ray_job.bucket import keys
from ray_job.bucket.storage import Storage
from tests.api.bucket import NOON

ISSUER = "https://issuer.example"
AUDIENCE = "storecast"
PROXY = "https://cloud.google.com/iap"


@cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """One key per name for the whole test run."""
    assert name
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def ec_key(name: str) -> ec.EllipticCurvePrivateKey:
    assert name
    return ec.generate_private_key(ec.SECP256R1())


def key_set(*names: str, ec_names: tuple[str, ...] = ()) -> bytes:
    entries = []
    for name in names:
        entry = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key(name).public_key()))
        entries.append(entry | {"kid": name, "alg": "RS256", "use": "sig"})
    for name in ec_names:
        entry = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(ec_key(name).public_key()))
        entries.append(entry | {"kid": name, "alg": "ES256", "use": "sig"})
    return json.dumps({"keys": entries}).encode()


def public_pem(name: str) -> bytes:
    return (
        rsa_key(name)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def claims(subject: str = "anna", *, now: datetime = NOON, **changes: Any) -> dict[str, Any]:
    found = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": subject,
        "iat": int((now - timedelta(minutes=1)).timestamp()),
        "exp": int((now + timedelta(hours=1)).timestamp()),
        **changes,
    }
    return {name: value for name, value in found.items() if value is not None}


def token(subject: str = "anna", *, key: str = "k1", kid: str | None = "k1", **changes: Any) -> str:
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(claims(subject, **changes), rsa_key(key), "RS256", headers=headers)


def proxy_token(subject: str, **changes: Any) -> str:
    said = claims(subject, iss=PROXY, aud="/projects/1/global/backendServices/2", **changes)
    return jwt.encode(said, ec_key("p1"), "ES256", headers={"kid": "p1"})


def unsigned(said: dict[str, Any], algorithm: str = "none") -> str:
    def part(content: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    return f"{part({'alg': algorithm, 'typ': 'JWT', 'kid': 'k1'})}.{part(said)}."


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


@dataclass
class KeyServer:
    url: str
    body: bytes
    status: int = 200
    requests: list[str] = field(default_factory=list)

    def issuer(self, **changes: Any) -> Issuer:
        return Issuer(**{"issuer": ISSUER, "jwks": self.url, "audience": AUDIENCE, **changes})

    def proxy(self) -> Issuer:
        return self.issuer(
            issuer=PROXY,
            audience="/projects/1/global/backendServices/2",
            algorithms=("ES256",),
            header="x-goog-iap-jwt-assertion",
            trust_email=True,
        )


@contextmanager
def serve_keys(body: bytes) -> Iterator[KeyServer]:
    keys_of = KeyServer("", body)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys_of.requests.append(self.path)
            self.send_response(keys_of.status)
            self.end_headers()
            self.wfile.write(keys_of.body)

        def log_message(self, *_: Any) -> None:
            """Requests are counted, not logged."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        keys_of.url = f"http://127.0.0.1:{server.server_address[1]}/keys"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield keys_of
        finally:
            server.shutdown()
            thread.join(10)


def write_grants(storage: Storage, *grants: dict[str, Any]) -> None:
    found = storage.stat(keys.GRANTS)
    data = json.dumps({"grants": [{"issuer": ISSUER, **grant} for grant in grants]}).encode()
    storage.replace(keys.GRANTS, data, found.generation if found else None)
