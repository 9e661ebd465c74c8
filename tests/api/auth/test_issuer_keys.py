"""Callers that arrive while the keys are fetched wait for them."""

import asyncio
import base64
import json
import socket
import threading
import time
from contextlib import closing, suppress
from datetime import timedelta

import pytest

from api.auth import issuer_keys
from api.auth.issuer_keys import IssuerKeys
from api.auth.tokens import check_signature, parse
from api.problems import SignInError, SignInUnavailableError
from api.settings import Issuer
from tests.api.fixtures.bucket import NOON
from tests.api.fixtures.serving import wait_until
from tests.api.fixtures.tokens import bearer, key_set, serve_keys, token


def test_the_first_callers_of_a_new_process_wait_for_one_fetch():
    with serve_keys(key_set("k1")) as key_server:
        keys, issuer = IssuerKeys(), key_server.issuer()

        async def find_all():
            return await asyncio.gather(*(keys.find(issuer, "k1", NOON) for _ in range(20)))

        assert {key.key_id for keys_of_one in asyncio.run(find_all()) for key in keys_of_one} == {
            "k1"
        }
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
            (key,) = await keys.find(issuer, "k1", NOON + timedelta(seconds=31))
            return key.key_id

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


def b64(number: int) -> str:
    data = number.to_bytes((number.bit_length() + 7) // 8 or 1, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


GOOD_RSA, GOOD_EC = json.loads(key_set("k1", ec_names=("p1",)))["keys"]
N = GOOD_RSA["n"]
UNUSABLE = [
    None, "x", [], {}, 5, {"kty": ["RSA"]}, {"kty": "RSA"}, {"kty": "oct", "k": "AA" * 40},
    {**GOOD_RSA, "kid": ["k2"]}, {**GOOD_RSA, "kid": 5}, {**GOOD_RSA, "alg": "none"},
    {**GOOD_RSA, "alg": ["RS256"]}, {**GOOD_RSA, "use": "enc"}, {**GOOD_RSA, "use": ["sig"]},
    {**GOOD_RSA, "n": 5}, {**GOOD_RSA, "n": ""}, {**GOOD_RSA, "n": "é"}, {**GOOD_RSA, "n": "AA"},
    {**GOOD_RSA, "e": b64(1)}, {**GOOD_RSA, "e": "AA"}, {**GOOD_RSA, "e": None},
    {**GOOD_RSA, "n": b64(2**1023 + 1)}, {**GOOD_RSA, "d": "AQAB"}, {**GOOD_EC, "x": b64(5)},
    {**GOOD_EC, "crv": ["P-256"]}, {**GOOD_EC, "y": GOOD_EC["x"]}, {"kty": "OKP", "crv": "Ed25519"},
]  # fmt: skip


def find_in(document: bytes, key_id: str) -> list[str]:
    """The algorithms of the keys with this id."""
    with serve_keys(document) as key_server:
        issuer = key_server.issuer()
        return [key.algorithm_name for key in asyncio.run(IssuerKeys().find(issuer, key_id, NOON))]


def test_keys_that_cannot_be_used_do_not_cost_the_others(signed):
    """Also not the process its answer to a token that names such a key."""
    entries = [*UNUSABLE, GOOD_RSA, *UNUSABLE]
    assert find_in(json.dumps({"keys": entries}).encode(), "k1") == ["RS256"]
    large = [{**GOOD_RSA, "kid": "large", "n": b64(2**400_000 + 1), "e": b64(2**399_999 + 1)}]
    signed.key_server.body = json.dumps({"keys": [*UNUSABLE, *large, GOOD_RSA]}).encode()
    signed.api.clock.now += timedelta(minutes=11)
    now = signed.api.clock.now
    for kid, status in (("large", 401), ("k1", 200)):
        headers = bearer(token("anna", kid=kid, now=now))
        wait_until(lambda headers=headers, status=status: _status(signed, headers) == status)


def _status(signed, headers) -> int:
    return signed.api.get("/v1/me", headers=headers).status_code


def test_keys_may_share_an_id():
    second = json.loads(key_set("k2"))["keys"][0]
    entries = [{**key, "kid": "k"} for key in (GOOD_RSA, GOOD_EC, second)]
    assert find_in(json.dumps({"keys": entries}).encode(), "k") == ["RS256", "ES256", "RS256"]
    text = token(key="k2", kid="k")

    async def check() -> None:
        with serve_keys(json.dumps({"keys": entries}).encode()) as key_server:
            same_id = await IssuerKeys().find(key_server.issuer(), "k", NOON)
        check_signature(parse(text), same_id)
        with pytest.raises(SignInError):
            check_signature(parse(text), same_id[:2])

    asyncio.run(check())


@pytest.mark.parametrize(
    "document",
    [b'{"keys": ' + b"[" * 100_000, b'{"keys": [], "keys": 5}', b"[]", b"\xff", b'{"keys": [NaN]}',
     b'{"keys": [' + b"9" * 5000 + b"]}"],
)  # fmt: skip
def test_documents_without_keys(document):
    with pytest.raises(SignInUnavailableError):
        find_in(document, "k1")


def test_an_answer_that_ends_too_early(caplog):
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def break_off() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n{"
                )

        threading.Thread(target=break_off, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        issuer = Issuer(issuer="i", jwks=url, audience="a")
        with pytest.raises(SignInUnavailableError):
            asyncio.run(IssuerKeys().find(issuer, "k1", NOON))
    assert "cannot be fetched" in caplog.text
