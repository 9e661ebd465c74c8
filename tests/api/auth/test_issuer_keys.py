"""Callers that arrive while the keys are fetched wait for them."""

import asyncio

from api.auth.issuer_keys import IssuerKeys
from tests.api.fixtures.bucket import NOON
from tests.api.fixtures.tokens import key_set, serve_keys


def test_the_first_callers_of_a_new_process_wait_for_one_fetch():
    with serve_keys(key_set("k1")) as key_server:
        keys, issuer = IssuerKeys(), key_server.issuer()

        async def find_all():
            return await asyncio.gather(*(keys.find(issuer, "k1", NOON) for _ in range(20)))

        assert {key.key_id for key in asyncio.run(find_all())} == {"k1"}
        assert len(key_server.requests) == 1
