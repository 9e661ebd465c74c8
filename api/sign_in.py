"""Sign-in: OpenID Connect tokens, one verifier over a table of issuers. Denied by default."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt

from api.grants import EVERYTHING, Access, Grants
from api.issuer_keys import IssuerKeys
from api.problems import SignInError
from api.settings import Issuer

_LEEWAY_SECONDS = 30
_REMEMBERED = 20_000
_LONGEST_TOKEN = 8192
_REQUIRED = ["exp", "iat", "iss", "aud", "sub"]
BEARER = "authorization"


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody whose token was verified; good until `expires`."""

    issuer: str
    subject: str
    verified_email: str | None
    expires: datetime | None
    is_local: bool = False

    @property
    def name(self) -> str:
        """Tells identities apart, for limits; not for logs."""
        return f"{self.issuer}\0{self.subject}"

    def access(self, grants: Grants) -> Access:
        if self.is_local:
            return EVERYTHING
        return grants.access(self.issuer, self.subject, self.verified_email)


LOCAL = Caller("", "local", None, None, is_local=True)
"""Whoever asks while sign-in is off, which happens on loopback only."""


class SignIn:
    """Verified tokens are remembered until they expire; refused ones are not."""

    def __init__(self, issuers: Sequence[Issuer], keys: IssuerKeys) -> None:
        self._by_place: dict[tuple[str, str], Issuer] = {
            (each.header, each.issuer): each for each in issuers
        }
        self._headers = sorted({each.header.encode() for each in issuers})
        self._keys = keys
        self._verified: OrderedDict[tuple[bytes, bytes], Caller] = OrderedDict()

    async def caller(self, headers: Iterable[tuple[bytes, bytes]], now: datetime) -> Caller:
        """Whose request it is. Raises SignInError or SignInUnavailableError.

        Where several headers hold a token, the one of the proxy decides: it was not the caller's
        to set.
        """
        if not self._headers:
            return LOCAL
        found = {name: value for name, value in headers if name in self._headers}
        for name in reversed(self._headers):
            if name in found:
                return await self._of_header(name, found[name], now)
        raise _refused("there is no token with this request")

    async def _of_header(self, name: bytes, value: bytes, now: datetime) -> Caller:
        remembered = self._verified.get((name, value))
        if remembered is not None:
            if remembered.expires is None or now < remembered.expires:
                return remembered
            del self._verified[name, value]
        caller = await self._verify(name.decode(), _token(name.decode(), value), now)
        self._verified[name, value] = caller
        if len(self._verified) > _REMEMBERED:
            self._verified.popitem(last=False)
        return caller

    async def _verify(self, place: str, token: str, now: datetime) -> Caller:
        issuer = self._issuer(place, token)
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
                    "require": _REQUIRED,
                    # The clock is the service's, not the library's: see below.
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.InvalidTokenError, jwt.PyJWTError, ValueError, TypeError):
            raise _refused("the token cannot be verified") from None
        expires = _in_time(claims, now)
        return Caller(issuer.issuer, claims["sub"], _email(claims, issuer), expires)

    def _issuer(self, place: str, token: str) -> Issuer:
        try:
            claims = jwt.decode(token, options={"verify_signature": False})
            issuer = self._by_place.get((place, str(claims.get("iss"))))
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise _refused("the token is not a JSON Web Token") from None
        if issuer is None:
            raise _refused("the token's issuer is not accepted")
        return issuer


def _token(place: str, value: bytes) -> str:
    text = value.decode("latin-1").strip()
    if place == BEARER:
        scheme, _, text = text.partition(" ")
        if scheme.lower() != "bearer":
            raise _refused("the Authorization header holds no bearer token")
    if not text.strip() or len(text) > _LONGEST_TOKEN:
        raise _refused("the token is empty or too long")
    return text.strip()


def _in_time(claims: dict[str, Any], now: datetime) -> datetime:
    """When the token expires. A token from the future, or of the past, is refused."""
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


def _email(claims: dict[str, Any], issuer: Issuer) -> str | None:
    email = claims.get("email")
    is_verified = claims.get("email_verified") is True or (
        issuer.trust_email and "email_verified" not in claims
    )
    return email if isinstance(email, str) and is_verified else None


def _refused(why: str) -> SignInError:
    return SignInError(why, headers={"WWW-Authenticate": 'Bearer realm="storecast"'})
