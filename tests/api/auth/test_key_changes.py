"""The keys of a running service's issuers: new ones, withdrawn ones, and none."""

from __future__ import annotations

import threading
from datetime import timedelta

from tests.api.fixtures.bucket import NOON, Bucket
from tests.api.fixtures.serving import serve, wait_until
from tests.api.fixtures.sign_in import GRANTS, STORES
from tests.api.fixtures.tokens import bearer, key_set, serve_keys, token, write_grants


def test_a_verified_token_is_cached_until_it_expires(signed):
    text = token()
    for _ in range(3):
        assert signed.status(text) == 200
    assert len(signed.key_server.requests) == 1
    signed.api.clock.now = NOON + timedelta(hours=1, seconds=31)
    assert signed.status(text) == 401


def test_unknown_key_ids_cause_few_fetches(signed):
    assert signed.status(token()) == 200
    for number in range(50):
        assert signed.status(token(kid=f"made-up-{number}")) == 401
    assert len(signed.key_server.requests) == 1
    signed.api.clock.now += timedelta(seconds=31)
    assert [signed.status(token(kid="x")) for _ in range(10)] == [401] * 10
    assert len(signed.key_server.requests) == 2


def test_rotated_keys_are_fetched_after_the_cool_down(signed):
    assert signed.status(token()) == 200
    signed.key_server.body = key_set("k2")
    signed.api.clock.now += timedelta(seconds=31)
    assert signed.status(token(key="k2", kid="k2")) == 200
    assert signed.status(token("anna", key="k1", kid="k1", jti="new")) == 401


def test_a_remembered_token_is_forgotten_when_its_key_goes(signed):
    text = token()
    assert [signed.status(text) for _ in range(2)] == [200, 200]
    signed.key_server.body = key_set("k2")
    signed.api.clock.now += timedelta(minutes=10)
    # The first request begins the fetch and does not wait for it.
    wait_until(lambda: signed.status(text) == 401)
    assert signed.status(token(key="k2", kid="k2")) == 200


def test_keys_are_fetched_at_the_start_and_who_needs_them_waits(tmp_path):
    bucket = Bucket.make(tmp_path)
    bucket.publish(STORES)
    write_grants(bucket.storage, *GRANTS)
    with serve_keys(key_set("k1")) as key_server:
        key_server.seconds = 0.5
        with serve(str(tmp_path), issuers=(key_server.issuer(),)) as api:
            assert key_server.requests == ["/keys"]
            for subject in ("anna", "all"):
                answer = api.get("/v1/stores/1/forecast", headers=bearer(token(subject)))
                assert answer.status_code == 200
            assert key_server.requests == ["/keys"]


def test_made_up_key_ids_do_not_delay_good_ones(signed):
    assert signed.status(token()) == 200
    signed.key_server.seconds = 2.0
    signed.api.clock.now += timedelta(seconds=31)
    made_up = threading.Thread(target=signed.status, args=(token(kid="made-up"),))
    made_up.start()
    wait_until(lambda: len(signed.key_server.requests) == 2)
    for subject in ("anna", "all"):
        assert signed.status(token(subject, jti="new")) == 200
    assert made_up.is_alive(), "the good tokens waited for the fetch of the made-up one"
    made_up.join()


def test_old_keys_stay_valid_during_an_outage(tmp_path):
    bucket = Bucket.make(tmp_path)
    bucket.publish(STORES)
    write_grants(bucket.storage, *GRANTS)
    with (
        serve_keys(b"nonsense") as key_server,
        serve(str(tmp_path), issuers=(key_server.issuer(),)) as api,
    ):
        answer = api.get("/v1/stores/1/forecast", headers=bearer(token()))
        assert answer.status_code == 503
        assert answer.json()["type"] == "/problems/sign-in-unavailable"
        key_server.body = key_set("k1")
        api.clock.now += timedelta(seconds=31)
        assert api.get("/v1/stores/1/forecast", headers=bearer(token())).status_code == 200
        key_server.status = 500
        api.clock.now += timedelta(hours=2)
        later = token(now=api.clock.now)
        assert api.get("/v1/stores/1/forecast", headers=bearer(later)).status_code == 200
