"""The public keys of issuers, fetched in threads at the start, every ten minutes, and when needed.

An unknown key id makes the service fetch the keys again, because issuers rotate keys. It does so at
most every `COOL_DOWN_SECONDS`, so that tokens with invented key ids cause no traffic. Who has a
known key does not wait for a fetch, and who needs one waits for the fetch that runs already.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from typing import Any

import jwt

from api.auth.tokens import refused
from api.problems import SignInUnavailableError
from api.settings import Issuer

_LOG = logging.getLogger("api.keys")
COOL_DOWN_SECONDS = 30
_FIRST_COOL_DOWN_SECONDS = 2
"""While there are no keys at all."""
_LIFETIME = timedelta(minutes=10)
_CHECK_EVERY = timedelta(seconds=10)
_MAX_BYTES = 2**20
_PIECE_BYTES = 65_536
_TIMEOUT_SECONDS = 5
_THREADS = 2
_MAX_SAME_ID = 4
"""Of keys with the same id so many are tried: each costs a signature."""

Keys = dict[str | None, tuple[jwt.PyJWK, ...]]
"""By key id. Keys of several algorithms may share one (RFC 7517, 4.5)."""


@dataclass
class _KeySet:
    """The keys of one address by key id. `tried` is the time of the last attempt to fetch them."""

    url: str
    keys: Keys = field(default_factory=dict)
    entries: Any = None
    fetched: datetime | None = None
    tried: datetime | None = None
    fetch: asyncio.Task[None] | None = None

    def may_fetch(self, now: datetime) -> bool:
        seconds = COOL_DOWN_SECONDS if self.keys else _FIRST_COOL_DOWN_SECONDS
        return self.tried is None or now - self.tried >= timedelta(seconds=seconds)

    def is_due(self, now: datetime) -> bool:
        return self.fetched is None or now - self.fetched >= _LIFETIME


class IssuerKeys:
    """The keys of every issuer, for one event loop. `on_fetch` is called before each fetch."""

    def __init__(self, on_fetch: Callable[[], None] = lambda: None) -> None:
        self.version = 0
        """Another number after keys of an issuer have changed."""
        self._on_fetch = on_fetch
        self._next_check = datetime.min.replace(tzinfo=UTC)
        self._key_sets: dict[str, _KeySet] = {}
        self._executor = ThreadPoolExecutor(_THREADS, "keys")

    def start(self, issuers: Sequence[Issuer], now: datetime) -> None:
        for issuer in issuers:
            self._begin_fetch(self._key_set(issuer), now)

    def close(self) -> None:
        for key_set in self._key_sets.values():
            if key_set.fetch is not None:
                key_set.fetch.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def refresh_if_due(self, now: datetime) -> None:
        """Begin to fetch keys that are older than ten minutes. Nobody waits for it."""
        if now < self._next_check:
            return
        self._next_check = now + _CHECK_EVERY
        for key_set in self._key_sets.values():
            if key_set.keys and key_set.is_due(now):
                self._begin_fetch(key_set, now)

    async def find(self, issuer: Issuer, key_id: str | None, now: datetime) -> Sequence[jwt.PyJWK]:
        """The keys of this id, one as a rule.

        Raises SignInError for an unknown id, SignInUnavailableError without any keys.
        """
        key_set = self._key_set(issuer)
        if key_id not in key_set.keys:
            self._begin_fetch(key_set, now)
            if key_set.fetch is not None:
                await asyncio.wait({key_set.fetch}, timeout=_TIMEOUT_SECONDS)
        keys = key_set.keys.get(key_id)
        if keys is not None:
            return keys
        if key_set.fetched is None:
            raise SignInUnavailableError("the issuer's keys cannot be fetched at the moment")
        raise refused("the token's key is not among the issuer's")

    def _key_set(self, issuer: Issuer) -> _KeySet:
        return self._key_sets.setdefault(issuer.jwks, _KeySet(issuer.jwks))

    def _begin_fetch(self, key_set: _KeySet, now: datetime) -> None:
        """Does nothing while a fetch runs or too soon after the last one."""
        if key_set.fetch is None and key_set.may_fetch(now):
            key_set.tried = now
            self._on_fetch()
            key_set.fetch = asyncio.create_task(self._fetch(key_set, now))

    async def _fetch(self, key_set: _KeySet, now: datetime) -> None:
        """A fetch that fails leaves the old keys in use: callers can still sign in with them."""
        try:
            entries, keys = await asyncio.get_running_loop().run_in_executor(
                self._executor, _fetched, key_set.url
            )
        except (OSError, ValueError, HTTPException) as error:
            _LOG.warning("the keys at %s cannot be fetched: %s", key_set.url, error)
            return
        finally:
            key_set.fetch = None
        if not keys:
            _LOG.warning("%s: there is no key that can be used", key_set.url)
            return
        if key_set.entries != entries:
            self.version += 1
        key_set.keys, key_set.entries, key_set.fetched = keys, entries, now


def _fetched(url: str) -> tuple[list[Any], Keys]:
    """For a thread: making keys of a large document takes longer than a request may wait."""
    entries = _entries(_read(url))
    return entries, _keys(entries)


def _read(url: str) -> bytes:
    """Raises OSError, also if the document has not come as a whole after some seconds."""
    until = time.monotonic() + _TIMEOUT_SECONDS
    data = b""
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310 - the settings checked the scheme
        while piece := response.read1(_PIECE_BYTES):
            data += piece
            if len(data) > _MAX_BYTES:
                raise OSError(f"the document has more than {_MAX_BYTES} bytes")
            if time.monotonic() > until:
                raise TimeoutError(f"it has not come within {_TIMEOUT_SECONDS} seconds")
    return data


def _entries(data: bytes) -> list[Any]:
    try:
        document: Any = json.loads(data)
    except RecursionError:
        raise ValueError("the document nests too deeply") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("the document has no list of keys")  # noqa: TRY004 - the content is wrong
    return entries


def _keys(entries: list[Any]) -> Keys:
    """Keys by id, without those that cannot be used. A single key also serves tokens without id."""
    keys: Keys = {}
    for entry in entries:
        key = _usable_key(entry)
        if key is not None:
            keys[key.key_id] = (*keys.get(key.key_id, ()), key)[:_MAX_SAME_ID]
    if len(keys) == 1:
        keys[None] = next(iter(keys.values()))
    return keys


def _usable_key(entry: Any) -> jwt.PyJWK | None:
    """None for a key that is damaged, weak, secret, or for something else than signatures."""
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str | None):
        return None
    try:
        key = jwt.PyJWK.from_dict(entry)
        is_usable = (
            entry.get("use", "sig") == "sig"
            and entry.get("kty") != "oct"
            and key.Algorithm.check_key_length(key.Algorithm.prepare_key(key.key)) is None
        )
    # An algorithm without signatures is not implemented.
    except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, LookupError, RuntimeError):
        return None
    return key if is_usable else None
