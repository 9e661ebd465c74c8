"""Sign-in: verifies OpenID Connect tokens of the issuers in the settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt
from cachetools import LRUCache

from api.auth.grants import EVERYTHING, Access, Grants
from api.auth.issuer_keys import IssuerKeys
from api.problems import SignInError
from api.settings import Issuer

_LEEWAY_SECONDS = 30
_MAX_VERIFIED = 20_000
_MAX_TOKEN_CHARACTERS = 8192
_REQUIRED_CLAIMS = ["exp", "iat", "iss", "aud", "sub"]
AUTHORIZATION = "authorization"


@dataclass(frozen=True, slots=True)
class Caller:
    """The verified holder of a token, which is valid until `expires`."""

    issuer: str
    subject: str
    verified_email: str | None
    expires: datetime | None
    is_local: bool = False

    @property
    def name(self) -> str:
        """The key of the caller for rate limits. It must not be logged."""
        return f"{self.issuer}\0{self.subject}"

    def access(self, grants: Grants) -> Access:
        if self.is_local:
            return EVERYTHING
        return grants.access(self.issuer, self.subject, self.verified_email)


LOCAL = Caller("", "local", None, None, is_local=True)
"""The caller of every request while sign-in is off. The settings allow that on loopback only."""


class SignIn:
    """Verified tokens are cached until they expire. Refused tokens are not cached."""

    def __init__(self, issuers: Sequence[Issuer], keys: IssuerKeys) -> None:
        self._issuers: dict[tuple[str, str], Issuer] = {
            (issuer.header, issuer.issuer): issuer for issuer in issuers
        }
        self._headers = sorted({issuer.header.encode() for issuer in issuers})
        self._keys = keys
        self._verified: LRUCache[tuple[bytes, bytes], Caller] = LRUCache(_MAX_VERIFIED)

    async def caller(self, headers: Iterable[tuple[bytes, bytes]], now: datetime) -> Caller:
        """The caller of a request. Raises SignInError or SignInUnavailableError.

        If several headers hold a token, that of the proxy decides, because callers cannot set it.
        """
        if not self._headers:
            return LOCAL
        credentials = {name: value for name, value in headers if name in self._headers}
        for name in reversed(self._headers):
            if name in credentials:
                return await self._caller_of_header(name, credentials[name], now)
        raise _refused("there is no token with this request")

    async def _caller_of_header(self, name: bytes, value: bytes, now: datetime) -> Caller:
        cached = self._verified.get((name, value))
        if cached is not None:
            if cached.expires is None or now < cached.expires:
                return cached
            del self._verified[name, value]
        caller = await self._verify(name.decode(), _token(name.decode(), value), now)
        self._verified[name, value] = caller
        return caller

    async def _verify(self, header_name: str, token: str, now: datetime) -> Caller:
        issuer = self._issuer(header_name, token)
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            raise _refused("the token is not a JSON Web Token") from None
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in issuer.algorithms:
            raise _refused("the token is signed in a way that is not accepted")
        key = await self._keys.find(issuer, key_id if isinstance(key_id, str) else None, now)
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=issuer.audience,
                issuer=issuer.issuer,
                options={
                    "require": _REQUIRED_CLAIMS,
                    # `_check_times` does this with the clock of the service.
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.InvalidTokenError, jwt.PyJWTError, ValueError, TypeError):
            raise _refused("the token cannot be verified") from None
        expires = _check_times(claims, now)
        return Caller(issuer.issuer, claims["sub"], _verified_email(claims, issuer), expires)

    def _issuer(self, header_name: str, token: str) -> Issuer:
        try:
            claims = jwt.decode(token, options={"verify_signature": False})
            issuer = self._issuers.get((header_name, str(claims.get("iss"))))
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise _refused("the token is not a JSON Web Token") from None
        if issuer is None:
            raise _refused("the token's issuer is not accepted")
        return issuer


def _token(header_name: str, value: bytes) -> str:
    text = value.decode("latin-1").strip()
    if header_name == AUTHORIZATION:
        scheme, _, text = text.partition(" ")
        if scheme.lower() != "bearer":
            raise _refused("the Authorization header holds no bearer token")
    if not text.strip() or len(text) > _MAX_TOKEN_CHARACTERS:
        raise _refused("the token is empty or too long")
    return text.strip()


def _check_times(claims: dict[str, Any], now: datetime) -> datetime:
    """When the token expires. Raises SignInError if it has expired or is not valid yet."""
    seconds = now.timestamp()
    times = {name: claims[name] for name in ("exp", "iat", "nbf") if name in claims}
    if any(
        isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**35
        for value in times.values()
    ):
        raise _refused("the token's times are not numbers")
    if times["exp"] + _LEEWAY_SECONDS <= seconds:
        raise _refused("the token has expired")
    if max(times["iat"], times.get("nbf", 0)) > seconds + _LEEWAY_SECONDS:
        raise _refused("the token is from the future")
    return datetime.fromtimestamp(times["exp"] + _LEEWAY_SECONDS, UTC)


def _verified_email(claims: dict[str, Any], issuer: Issuer) -> str | None:
    email = claims.get("email")
    is_verified = claims.get("email_verified") is True or (
        issuer.trust_email and "email_verified" not in claims
    )
    return email if isinstance(email, str) and is_verified else None


def _refused(reason: str) -> SignInError:
    return SignInError(reason, headers={"WWW-Authenticate": 'Bearer realm="storecast"'})
