"""Development tokens for the API: real tokens, signed by a key in a local directory.

An API accepts them only if its table of issuers has the entry `DevelopmentKey.issuer`, whose `jwks`
is the file beside the key.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ray_job.bucket.errors import InputError

ISSUER = "https://storecast.invalid/development"
AUDIENCE = "storecast"
ALGORITHM = "ES256"
_PRIVATE, _PUBLIC, _LOCK = "key.pem", "jwks.json", ".lock"


@dataclass(frozen=True, slots=True)
class DevelopmentKey:
    """A key pair; `jwks` is the file with its public half."""

    key: ec.EllipticCurvePrivateKey
    key_id: str
    jwks: Path

    def token(
        self, *, subject: str, email: str | None, audience: str, now: datetime, lifetime: timedelta
    ) -> str:
        """A signed token that is valid from `now` on, for `lifetime`."""
        claims: dict[str, object] = {
            "iss": ISSUER,
            "aud": audience,
            "sub": subject,
            "iat": now,
            "exp": now + lifetime,
        }
        if email is not None:
            claims |= {"email": email, "email_verified": True}
        return jwt.encode(claims, self.key, algorithm=ALGORITHM, headers={"kid": self.key_id})

    @property
    def issuer(self) -> dict[str, object]:
        """The entry for the API's table of issuers."""
        return {
            "issuer": ISSUER,
            "jwks": self.jwks.resolve().as_uri(),
            "audience": AUDIENCE,
            "algorithms": [ALGORITHM],
        }


def open_key(folder: Path) -> DevelopmentKey:
    """The key of a directory; a new one is made if the directory has none. Idempotent.

    Raises InputError if the key file is not an elliptic-curve private key, or if the directory
    cannot be written.
    """
    path, jwks = folder / _PRIVATE, folder / _PUBLIC
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _LOCK).open("wb") as lock:  # another process may make the first key, too
            fcntl.flock(lock, fcntl.LOCK_EX)
            return _open_key(path, jwks)
    except OSError as error:
        raise InputError(f"{error.filename or folder}: {error.strerror}") from error


def _open_key(path: Path, jwks: Path) -> DevelopmentKey:
    if not path.exists():
        _make_key(path)
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: this is not a private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(f"{path}: this is not a key for {ALGORITHM}")
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    key_id = str(public["x"])[:16]
    key_set = {"keys": [{**public, "kid": key_id, "alg": ALGORITHM, "use": "sig"}]}
    _write_whole(jwks, json.dumps(key_set).encode(), 0o644)
    return DevelopmentKey(key, key_id, jwks)


def _make_key(path: Path) -> None:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write_whole(path, pem, 0o600)


def _write_whole(path: Path, data: bytes, mode: int) -> None:
    """Write a file so that a process that is killed leaves no half of it.

    What it leaves is the new file under another name, which the next call overwrites.
    """
    new = path.with_name(f"{path.name}.new")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    new.replace(path)
