"""Sign-in: verifies OpenID Connect tokens of the issuers in the settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cachetools import LRUCache

from api.auth.grants import EVERYTHING, Access, Grants
from api.auth.issuer_keys import IssuerKeys
from api.auth.tokens import check_claims, check_header, check_signature, parse, refused
from api.settings import Issuer

_MAX_VERIFIED = 20_000
AUTHORIZATION = "authorization"
SIGN_IN_OUTCOME = "storecast.sign_in_outcome"
"""The key of the scope that holds the Caller of the request, or the problem of its token."""

Headers = Iterable[tuple[bytes, bytes]]
Credentials = tuple[bytes, bytes]
"""The name and the value of the header that holds the token."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The verified holder of a token, which is valid until `expires`.

    `name` is his key for rate limits, and must not be logged. `identity` has all on which his
    rights depend, besides the grants. Both are asked for with each request.
    """

    issuer: str
    subject: str
    verified_email: str | None
    expires: datetime | None
    is_local: bool = False
    name: str = field(init=False, repr=False)
    identity: tuple[str, str, str | None] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"{self.issuer}\0{self.subject}")
        object.__setattr__(self, "identity", (self.issuer, self.subject, self.verified_email))

    def access(self, grants: Grants) -> Access:
        if self.is_local:
            return EVERYTHING
        return grants.access(self.issuer, self.subject, self.verified_email)


LOCAL = Caller("", "local", None, None, is_local=True)
"""The caller of every request while sign-in is off. The settings allow that on loopback only."""


class SignIn:
    """Verified tokens are remembered until they expire or their issuer's keys change.

    Refused tokens are not remembered.
    """

    def __init__(self, issuers: Sequence[Issuer], keys: IssuerKeys) -> None:
        self._issuers: dict[tuple[str, str], Issuer] = {
            (issuer.header, issuer.issuer): issuer for issuer in issuers
        }
        self._headers = sorted({issuer.header.encode() for issuer in issuers}, reverse=True)
        self._keys = keys
        self._keys_version = keys.version
        self._verified: LRUCache[Credentials, Caller] = LRUCache(_MAX_VERIFIED)

    def start(self, now: datetime) -> None:
        """Begin to fetch the keys of every issuer. Needs a running event loop."""
        self._keys.start(list(self._issuers.values()), now)

    def close(self) -> None:
        self._keys.close()

    def has_credentials(self, headers: Headers) -> bool:
        return any(name in self._headers for name, _ in headers)

    def remembered(self, headers: Headers, now: datetime) -> Caller | None:
        """The caller if sign-in is off or the token was verified before, else None."""
        if not self._headers:
            return LOCAL
        self._keys.refresh_if_due(now)
        if self._keys_version != self._keys.version:
            self._keys_version = self._keys.version
            self._verified.clear()
            return None
        credentials: Credentials | None = None
        for pair in headers:
            if pair[0] in self._headers:
                if credentials is not None:
                    return None
                credentials = pair
        return None if credentials is None else self._verified_caller(credentials, now)

    async def caller(self, headers: Headers, now: datetime) -> Caller:
        """The caller of a request. Raises SignInError or SignInUnavailableError.

        If several headers hold a token, that of the proxy decides, because callers cannot set it.
        """
        headers = list(headers)
        caller = self.remembered(headers, now)
        if caller is not None:
            return caller
        credentials = self._credentials(headers)
        caller = self._verified_caller(credentials, now)
        if caller is None:
            caller = await self._verify(credentials[0].decode(), _token(credentials), now)
            self._verified[credentials] = caller
        return caller

    def _verified_caller(self, credentials: Credentials, now: datetime) -> Caller | None:
        try:
            caller = self._verified[credentials]
        except KeyError:
            return None
        if caller.expires is not None and now >= caller.expires:
            return None
        return caller

    def _credentials(self, headers: Headers) -> Credentials:
        given = [pair for pair in headers if pair[0] in self._headers]
        for name in self._headers:
            values = [pair for pair in given if pair[0] == name]
            if len(values) > 1:
                raise refused("the request has more than one token")
            if values:
                return values[0]
        raise refused("there is no token with this request")

    async def _verify(self, header_name: str, text: str, now: datetime) -> Caller:
        token = parse(text)
        issuer = self._issuers.get((header_name, token.issuer or ""))
        if issuer is None:
            raise refused("the token's issuer is not accepted")
        check_header(token, issuer)
        # What costs little is checked first.
        expires = check_claims(token, issuer, now)
        check_signature(token, await self._keys.find(issuer, token.key_id, now))
        email = _verified_email(token.claims, issuer)
        return Caller(issuer.issuer, token.claims["sub"], email, expires)


def _token(credentials: Credentials) -> str:
    name, value = credentials
    text = value.decode("latin-1").strip(" \t")
    if name.decode() == AUTHORIZATION:
        scheme, _, text = text.partition(" ")
        if scheme.lower() != "bearer":
            raise refused("the Authorization header holds no bearer token")
    return text.strip(" \t")


def _verified_email(claims: dict[str, Any], issuer: Issuer) -> str | None:
    email = claims.get("email")
    is_verified = claims.get("email_verified") is True or (
        issuer.trust_email and "email_verified" not in claims
    )
    return email if isinstance(email, str) and is_verified else None
