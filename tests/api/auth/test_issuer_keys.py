"""Callers that arrive while the keys are fetched wait for them."""

import asyncio
import socket
import threading
import time
from contextlib import closing, suppress
from datetime import timedelta

import pytest

from api.auth import issuer_keys
from api.auth.issuer_keys import IssuerKeys
from api.problems import SignInUnavailableError
from api.settings import Issuer
from tests.api.fixtures.bucket import NOON
from tests.api.fixtures.tokens import key_set, serve_keys


def test_the_first_callers_of_a_new_process_wait_for_one_fetch():
    with serve_keys(key_set("k1")) as key_server:
        keys, issuer = IssuerKeys(), key_server.issuer()

        async def find_all():
            return await asyncio.gather(*(keys.find(issuer, "k1", NOON) for _ in range(20)))

        assert {key.key_id for key in asyncio.run(find_all())} == {"k1"}
        assert len(key_server.requests) == 1


def test_a_document_that_never_ends_is_given_up(monkeypatch):
    """Each piece comes in time. The next fetch finds the keys elsewhere, in time for its caller."""
    monkeypatch.setattr(issuer_keys, "_TIMEOUT_SECONDS", 0.3)
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def drip() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
                while True:
                    connection.sendall(b" ")
                    time.sleep(0.05)

        threading.Thread(target=drip, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        keys = IssuerKeys()

        async def find_twice(with_keys: Issuer) -> str | None:
            issuer = with_keys.model_copy(update={"jwks": url})
            with pytest.raises(SignInUnavailableError):
                await keys.find(issuer, "k1", NOON)
            (fetched,) = keys._key_sets.values()
            if fetched.fetch is not None:
                await asyncio.wait({fetched.fetch})
            fetched.url = with_keys.jwks
            return (await keys.find(issuer, "k1", NOON + timedelta(seconds=31))).key_id

        with serve_keys(key_set("k1")) as key_server:
            assert asyncio.run(find_twice(key_server.issuer())) == "k1"


def test_a_document_of_very_many_keys():
    """They are made beside the loop. A document of more than a mebibyte is refused whole."""
    entry = key_set("k1").decode().removeprefix('{"keys": [').removesuffix("]}")
    many = ", ".join(entry.replace('"k1"', f'"k{number}"') for number in range(2000))
    with serve_keys(f'{{"keys": [{many}]}}'.encode()) as key_server:
        keys, issuer = IssuerKeys(), key_server.issuer()

        async def find() -> float:
            longest, finding = 0.0, asyncio.create_task(keys.find(issuer, "k1999", NOON))
            while not finding.done():
                started = time.thread_time()
                await asyncio.sleep(0.001)
                longest = max(longest, time.thread_time() - started)
            await finding
            return longest

        # In the loop they would take 100 ms or more of its thread.
        assert asyncio.run(find()) < 0.05
        key_server.body = b" " * 2**20 + key_set("k1")
        with pytest.raises(SignInUnavailableError):
            asyncio.run(IssuerKeys().find(issuer, "k1", NOON))
