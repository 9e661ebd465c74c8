"""The public keys of issuers, fetched in a thread and only when needed.

An unknown key id makes the service fetch the keys again, because issuers rotate keys. It does so at
most every `COOL_DOWN_SECONDS`, so that tokens with invented key ids cause no traffic.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import jwt

from api.problems import SignInError, SignInUnavailableError
from api.settings import Issuer

COOL_DOWN_SECONDS = 30
_LIFETIME = timedelta(hours=1)
_MAX_BYTES = 2**20
_TIMEOUT_SECONDS = 5


@dataclass
class _KeySet:
    """The keys of one issuer by key id. `tried` is the time of the last attempt to fetch them."""

    keys: dict[str | None, jwt.PyJWK] = field(default_factory=dict)
    fetched: datetime | None = None
    tried: datetime | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class IssuerKeys:
    """The keys of every issuer. `on_fetch` is called before each fetch."""

    def __init__(self, on_fetch: Callable[[], None] = lambda: None) -> None:
        self._on_fetch = on_fetch
        self._key_sets: dict[str, _KeySet] = {}

    async def find(self, issuer: Issuer, key_id: str | None, now: datetime) -> jwt.PyJWK:
        """Raises SignInError for an unknown key, SignInUnavailableError without any keys."""
        key_set = self._key_sets.setdefault(issuer.jwks, _KeySet())
        is_fetched_now = key_set.lock.locked() and key_id not in key_set.keys
        if is_fetched_now or self._must_fetch(key_set, key_id, now):
            async with key_set.lock:
                if self._must_fetch(key_set, key_id, now):
                    await self._fetch(issuer, key_set, now)
        if key_set.fetched is None:
            raise SignInUnavailableError("the issuer's keys cannot be fetched at the moment")
        key = key_set.keys.get(key_id)
        if key is None:
            raise SignInError(
                "the token's key is not among the issuer's",
                headers={"WWW-Authenticate": 'Bearer realm="storecast"'},
            )
        return key

    def _must_fetch(self, key_set: _KeySet, key_id: str | None, now: datetime) -> bool:
        has_cooled_down = key_set.tried is None or now - key_set.tried >= timedelta(
            seconds=COOL_DOWN_SECONDS
        )
        is_current = key_set.fetched is not None and now - key_set.fetched < _LIFETIME
        return has_cooled_down and not (is_current and key_id in key_set.keys)

    async def _fetch(self, issuer: Issuer, key_set: _KeySet, now: datetime) -> None:
        """A fetch that fails leaves the old keys in use: callers can still sign in with them."""
        key_set.tried = now
        self._on_fetch()
        try:
            keys = _parse(await asyncio.to_thread(_read, issuer.jwks))
        except (OSError, ValueError):
            return
        if keys:
            key_set.keys, key_set.fetched = keys, now


def _read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310 - the settings checked the scheme
        data: bytes = response.read(_MAX_BYTES)
    return data


def _parse(data: bytes) -> dict[str | None, jwt.PyJWK]:
    """Keys by id, without those that cannot be used. A single key also serves tokens without id."""
    keys: dict[str | None, jwt.PyJWK] = {}
    document: Any = json.loads(data)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("the document has no list of keys")  # noqa: TRY004 - the content is wrong
    for entry in entries:
        try:
            key = jwt.PyJWK.from_dict(entry)
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
            continue
        if entry.get("use", "sig") == "sig" and entry.get("kty") != "oct":
            keys[key.key_id] = key
    if len(keys) == 1:
        keys[None] = next(iter(keys.values()))
    return keys
