"""The public keys of issuers, fetched beside the event loop and not more often than needed.

A key id that is not known is a reason to fetch again (issuers rotate keys), but not more often than
every `COOL_DOWN_SECONDS`: whoever sends tokens with made-up key ids makes no traffic.
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
_GOOD_FOR = timedelta(hours=1)
_LONGEST = 2**20
_TIMEOUT_SECONDS = 5


@dataclass
class _Known:
    keys: dict[str | None, jwt.PyJWK] = field(default_factory=dict)
    fetched: datetime | None = None
    tried: datetime | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class IssuerKeys:
    def __init__(self, on_fetch: Callable[[], None] = lambda: None) -> None:
        self._on_fetch = on_fetch
        self._known: dict[str, _Known] = {}

    async def find(self, issuer: Issuer, key_id: str | None, now: datetime) -> jwt.PyJWK:
        """Raises SignInError for an unknown key, SignInUnavailableError without any keys."""
        known = self._known.setdefault(issuer.jwks, _Known())
        if self._wants_fetch(known, key_id, now):
            async with known.lock:
                if self._wants_fetch(known, key_id, now):
                    await self._fetch(issuer, known, now)
        if known.fetched is None:
            raise SignInUnavailableError("the issuer's keys cannot be fetched at the moment")
        key = known.keys.get(key_id)
        if key is None:
            raise SignInError(
                "the token's key is not among the issuer's",
                headers={"WWW-Authenticate": 'Bearer realm="storecast"'},
            )
        return key

    def _wants_fetch(self, known: _Known, key_id: str | None, now: datetime) -> bool:
        has_rested = known.tried is None or now - known.tried >= timedelta(
            seconds=COOL_DOWN_SECONDS
        )
        is_current = known.fetched is not None and now - known.fetched < _GOOD_FOR
        return has_rested and not (is_current and key_id in known.keys)

    async def _fetch(self, issuer: Issuer, known: _Known, now: datetime) -> None:
        """A fetch that fails leaves the keys as they are: better old keys than nobody let in."""
        known.tried = now
        self._on_fetch()
        try:
            keys = _parse(await asyncio.to_thread(_read, issuer.jwks))
        except (OSError, ValueError):
            return
        if keys:
            known.keys, known.fetched = keys, now


def _read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - settings
        data: bytes = answer.read(_LONGEST)
    return data


def _parse(data: bytes) -> dict[str | None, jwt.PyJWK]:
    """Keys by id; a key that cannot be used is left out. A lone key serves tokens without id."""
    found: dict[str | None, jwt.PyJWK] = {}
    document: Any = json.loads(data)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("there is no list of keys")  # noqa: TRY004 - the content is wrong
    for each in entries:
        try:
            key = jwt.PyJWK.from_dict(each)
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
            continue
        if each.get("use", "sig") == "sig" and each.get("kty") != "oct":
            found[key.key_id] = key
    if len(found) == 1:
        found[None] = next(iter(found.values()))
    return found
