"""JSON Web Tokens (RFC 7519) in compact form: parsing, the signature, and the claims.

A token is parsed once. PyJWT decodes it three times for the same checks (decision 0078).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt

from api.problems import SignInError
from api.settings import Issuer

_LEEWAY_SECONDS = 30
_MAX_CHARACTERS = 8192
_TIMES = ("exp", "iat", "nbf")
_LAST_SECOND = 2**35
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Token:
    """A parsed token, of which nothing is verified yet."""

    header: dict[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: bytes

    @property
    def issuer(self) -> str | None:
        issuer = self.claims.get("iss")
        return issuer if isinstance(issuer, str) else None

    @property
    def key_id(self) -> str | None:
        key_id = self.header.get("kid")
        return key_id if isinstance(key_id, str) else None


def parse(text: str) -> Token:
    """Raises SignInError for anything but a signed token in compact form."""
    if not text or len(text) > _MAX_CHARACTERS:
        raise refused("the token is empty or too long")
    if _COMPACT.fullmatch(text) is None:
        raise refused("the token is not a JSON Web Token")
    signed, _, signature = text.rpartition(".")
    header, _, claims = signed.partition(".")
    return Token(_object(header), _object(claims), signed.encode("ascii"), _bytes(signature))


def check_header(token: Token, issuer: Issuer) -> None:
    """Raise SignInError unless the token is a JWT that is signed as the issuer signs."""
    header = token.header
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.upper() != "JWT":
        raise refused("the token is of another type than JWT")
    if "crit" in header or "b64" in header:
        raise refused("the token has extensions that are not accepted")
    if header.get("alg") not in issuer.algorithms:
        raise refused("the token is signed in a way that is not accepted")


def check_signature(token: Token, keys: Iterable[jwt.PyJWK]) -> None:
    """Raise SignInError unless one of the keys, with its own algorithm, made the signature."""
    if not any(_is_made_by(key, token) for key in keys):
        raise refused("the token cannot be verified")


def _is_made_by(key: jwt.PyJWK, token: Token) -> bool:
    if token.header["alg"] != key.algorithm_name:
        return False
    try:
        return key.Algorithm.verify(token.signed, key.key, token.signature)
    except (jwt.PyJWTError, ValueError, TypeError):
        return False


def check_claims(token: Token, issuer: Issuer, now: datetime) -> datetime:
    """When the token expires. Raises SignInError if its claims do not make it valid here and now.

    The audience must be the issuer's, and `azp` (OpenID Connect, 2), for whom the token was made,
    must be the audience or one of the issuer's authorized parties.
    """
    claims = token.claims
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise refused("the token has no subject")
    audience = claims.get("aud")
    if audience != issuer.audience and not (
        isinstance(audience, list) and issuer.audience in audience
    ):
        raise refused("the token is for another audience")
    if "azp" in claims and claims["azp"] not in (issuer.audience, *issuer.authorized_parties):
        raise refused("the token was made for another party")
    return _check_times(claims, issuer, now)


def _check_times(claims: dict[str, Any], issuer: Issuer, now: datetime) -> datetime:
    seconds = now.timestamp()
    times = {name: claims[name] for name in _TIMES if name in claims}
    if "exp" not in times or "iat" not in times:
        raise refused("the token does not say how long it is valid")
    if any(
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value < _LAST_SECOND
        for value in times.values()
    ):
        raise refused("the token's times are not numbers")
    if times["exp"] + _LEEWAY_SECONDS <= seconds:
        raise refused("the token has expired")
    if max(times["iat"], times.get("nbf", 0)) > seconds + _LEEWAY_SECONDS:
        raise refused("the token is from the future")
    if times["exp"] - times["iat"] > issuer.max_token_seconds:
        raise refused("the token is valid for longer than is accepted")
    return datetime.fromtimestamp(times["exp"] + _LEEWAY_SECONDS, UTC)


def refused(reason: str) -> SignInError:
    return SignInError(reason, headers={"WWW-Authenticate": 'Bearer realm="storecast"'})


def _object(segment: str) -> dict[str, Any]:
    try:
        content = json.loads(_bytes(segment))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise refused("the token is not a JSON Web Token")
    return content


def _bytes(segment: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except (ValueError, binascii.Error):
        raise refused("the token is not a JSON Web Token") from None
