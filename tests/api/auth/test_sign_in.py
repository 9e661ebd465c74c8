"""Tokens, grants and rate limits of a running service."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from api.settings import Issuer
from ray_job.bucket import keys, receipts
from ray_job.operations.development_token import open_key
from tests.api.fixtures.bucket import NOON, Bucket, StoreSpec
from tests.api.fixtures.records import receipt
from tests.api.fixtures.serving import Clock, RunningApi, serve, wait_until
from tests.api.fixtures.tokens import (
    AUDIENCE,
    PROXY,
    KeyServer,
    bearer,
    claims,
    ec_key,
    key_set,
    proxy_token,
    public_pem,
    rsa_key,
    serve_keys,
    token,
    unsigned,
    write_grants,
)

STORES = tuple(
    StoreSpec(name, items=("a", "b"), description={"secret": f"of-{name}"})
    for name in ("1", "2", "3")
)
GRANTS = (
    {"subject": "anna", "stores": ["1"]},
    {"email": "Ben@example.com", "stores": ["2", "3"]},
    {"subject": "olga", "stores": "*", "role": "operator"},
    {"subject": "rita", "stores": [], "role": "operator"},
    {"subject": "all", "stores": "*"},
    {"issuer": PROXY, "email": "ida@example.com", "stores": ["3"]},
)


@dataclass
class SignedApi:
    """A service with sign-in, its issuer's keys and its bucket."""

    api: RunningApi
    key_server: KeyServer
    bucket: Bucket

    def status(self, text: str, url: str = "/v1/stores/1/forecast") -> int:
        return self.api.get(url, headers=bearer(text)).status_code


@pytest.fixture
def signed(tmp_path) -> Iterator[SignedApi]:
    bucket = Bucket.make(tmp_path)
    bucket.publish(STORES)
    receipts.write(bucket.storage, receipt("run-2026-11-22-a"))
    write_grants(bucket.storage, *GRANTS)
    with (
        serve_keys(key_set("k1", ec_names=("p1",))) as key_server,
        serve(
            str(tmp_path),
            issuers=(key_server.issuer(authorized_parties=("batch-client",)), key_server.proxy()),
        ) as api,
    ):
        yield SignedApi(api, key_server, bucket)


def test_a_store_needs_a_token_and_a_grant(signed):
    assert signed.status(token()) == 200
    assert signed.status(token(), "/v1/stores/2/forecast") == 403
    assert signed.status(token("stranger")) == 403
    denied = signed.api.get("/v1/stores/1/forecast")
    assert denied.status_code == 401
    assert denied.headers["www-authenticate"].startswith("Bearer")
    assert denied.json()["type"] == "/problems/sign-in"


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "other"},
        {"aud": [AUDIENCE + "x"]},
        {"aud": None},
        {"iss": "https://other.example"},
        {"iss": None},
        {"iss": PROXY},
        {"sub": None},
        {"exp": None},
        {"iat": None},
        {"exp": int((NOON - timedelta(minutes=1)).timestamp())},
        {"iat": int((NOON + timedelta(minutes=5)).timestamp())},
        {"nbf": int((NOON + timedelta(minutes=5)).timestamp())},
        {"exp": "soon"},
        {"exp": 1e300},
        {"exp": True},
        {"nbf": "now"},
        {"kid": "other"},
        {"kid": None},  # the issuer has two keys, so a token must name its key
        {"key": "foreign"},
        {"exp": int((NOON + timedelta(hours=24)).timestamp())},  # 24 hours and a minute in all
        {"sub": ""},
        {"azp": "another-client"},
        {"azp": [AUDIENCE]},
        {"azp": ""},
        {"aud": [AUDIENCE, "other"], "azp": "other"},
        {"exp": float("nan")},
    ],
)
def test_invalid_claims_are_refused(signed, changes):
    assert signed.status(token(**changes)) == 401
    assert signed.status(token()) == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"azp": AUDIENCE},
        {"azp": "batch-client"},
        {"aud": ["other", AUDIENCE]},
        {"exp": int((NOON + timedelta(hours=23)).timestamp())},
    ],
)
def test_further_valid_claims(signed, changes):
    assert signed.status(token(**changes)) == 200


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ({"typ": "JWT"}, 200),
        ({"typ": "jwt"}, 200),
        ({"typ": "at+jwt"}, 401),
        ({"typ": "logout+jwt"}, 401),
        ({"typ": 1}, 401),
        ({"crit": ["b64"], "b64": True}, 401),
        ({"crit": []}, 401),
    ],
)
def test_the_type_and_the_extensions_of_a_token(signed, header, status):
    segments = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "RS256", "kid": "k1", **header}, claims())
    ]
    signature = rsa_key("k1").sign(".".join(segments).encode(), padding.PKCS1v15(), hashes.SHA256())
    text = ".".join([*segments, base64.urlsafe_b64encode(signature).decode().rstrip("=")])
    assert signed.status(text) == status


def test_two_tokens_in_one_request_are_refused(signed):
    good, other = token(), token("all")
    for headers in (
        [("Authorization", f"Bearer {good}"), ("Authorization", f"Bearer {good}")],
        [("Authorization", f"Bearer {good}"), ("authorization", f"Bearer {other}")],
        [("Authorization", f"Bearer {good}"), ("Authorization", "Basic YTpi")],
    ):
        assert signed.api.get("/v1/stores/1/forecast", headers=headers).status_code == 401
    assert signed.status(good) == 200


def test_addresses_are_folded_within_ascii_only(signed):
    url = "/v1/stores/2/forecast"
    # U+212A, the Kelvin sign, is a k in lower case. U+017F is an s in upper case.
    write_grants(signed.bucket.storage, {"email": "kim.s@example.com", "stores": ["2"]})
    signed.api.refresh()
    for email, status in (
        ("kim.s@example.com", 200),
        ("KIM.S@EXAMPLE.COM", 200),
        ("\u212aim.s@example.com", 403),
        ("kim.\u017f@example.com", 403),
    ):
        assert signed.status(token("k", email=email, email_verified=True), url) == status


def test_invalid_signatures_are_refused(signed):
    assert signed.status(unsigned(claims())) == 401
    assert signed.status(unsigned(claims(), "RS256")) == 401
    # HS256 with the public key as the secret. A verifier that trusts the header would accept it.
    forged = unsigned(claims(), "HS256").encode().rstrip(b".")
    mac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signature = jwt.utils.base64url_encode(mac.sign(forged, public_pem("k1")))
    assert signed.status(f"{forged.decode()}.{signature.decode()}") == 401
    # A key of the issuer, but an algorithm that the settings do not allow for it.
    elliptic = jwt.encode(claims(), ec_key("p1"), "ES256", headers={"kid": "p1"})
    assert signed.status(elliptic) == 401
    strong = jwt.encode(claims(), rsa_key("k1"), "RS512", headers={"kid": "k1"})
    assert signed.status(strong) == 401


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Basic YTpi", "Bearer a.b.c", "Bearer " + "x" * 9000, "Bearer é"],
)
def test_headers_without_a_token_are_refused(signed, value):
    headers = {"Authorization": value.encode("latin-1")}
    answer = signed.api.get("/v1/stores/1/forecast", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"


def test_only_verified_e_mails_count(signed):
    url = "/v1/stores/2/forecast"
    assert signed.status(token("b", email="ben@example.com", email_verified=True), url) == 200
    assert signed.status(token("b", email="BEN@example.com", email_verified=True), url) == 200
    assert signed.status(token("b", email="ben@example.com", email_verified=False), url) == 403
    assert signed.status(token("b", email="ben@example.com", email_verified="true"), url) == 403
    assert signed.status(token("b", email="ben@example.com"), url) == 403


def test_tokens_in_the_header_of_the_proxy(signed):
    def status(text: str, store: str, **other_headers: str) -> int:
        headers = {"X-Goog-IAP-JWT-Assertion": text, **other_headers}
        return signed.api.get(f"/v1/stores/{store}/forecast", headers=headers).status_code

    proxy = proxy_token("accounts.google.com:7", email="ida@example.com")
    assert status(proxy, "3") == 200
    assert status(proxy, "1") == 403
    assert status(token(), "1") == 401  # not a token of the proxy
    assert signed.status(proxy, "/v1/stores/3/forecast") == 401  # not a token of the issuer
    assert status(proxy, "1", **bearer(token())) == 403  # the proxy decides


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


def test_a_new_token_with_each_request_gets_the_cached_reply(signed):
    before = len(signed.api.app.replies)
    for number in range(5):
        text = proxy_token("7", email="ida@example.com", jti=str(number))
        answer = signed.api.get("/v1/stores/3/forecast", headers={"X-Goog-IAP-JWT-Assertion": text})
        assert answer.status_code == 200
    assert len(signed.api.app.replies) == before + 1


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


def test_grants_change_without_a_restart(signed):
    text = token()
    assert signed.status(text) == 200
    write_grants(signed.bucket.storage, {"subject": "anna", "stores": ["2"]})
    signed.api.refresh()
    assert signed.status(text) == 403
    assert signed.status(text, "/v1/stores/2/forecast") == 200
    path = signed.bucket.storage.url + "/" + keys.GRANTS
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write('{"grants": [{"issuer": "x"')
    signed.api.refresh()
    assert (
        signed.status(text, "/v1/stores/2/forecast") == 200
    )  # the last valid grants stay in force
    info = signed.bucket.storage.stat(keys.GRANTS)
    assert info is not None
    signed.bucket.storage.delete(keys.GRANTS, info.generation)
    signed.api.refresh()
    assert signed.status(text, "/v1/stores/2/forecast") == 403  # no grants: denied


@pytest.mark.parametrize(
    "text",
    [
        '{"grants": [{"issuer": "https://issuer.example", "stores": "*"}]}',
        '{"grants": [{"issuer": "i", "subject": "a", "email": "a@b", "stores": "*"}]}',
        '{"grants": [{"issuer": "i", "subject": "a", "stores": "all"}]}',
        '{"grants": [{"issuer": "i", "subject": "a", "role": "root"}]}',
        '{"grants": [{"issuer": "i", "subject": "a", "stores": ["1"], "not_after": "2020"}]}',
        "[]",
    ],
)
def test_invalid_grants_give_no_access(tmp_path, text):
    bucket = Bucket.make(tmp_path)
    bucket.publish(STORES)
    bucket.storage.replace(keys.GRANTS, text.encode(), None)
    with (
        serve_keys(key_set("k1")) as key_server,
        serve(str(tmp_path), issuers=(key_server.issuer(),)) as api,
    ):
        answer = api.get("/v1/stores/1/forecast", headers=bearer(token("a")))
        assert answer.status_code == 403


IDENTITIES = {
    "nobody": (None, set(), False),
    "stranger": (token("stranger"), set(), False),
    "anna": (token("anna"), {"1"}, False),
    "ben": (token("b", email="ben@example.com", email_verified=True), {"2", "3"}, False),
    "rita": (token("rita"), set(), True),
    "olga": (token("olga"), {"1", "2", "3", "99"}, True),
    "all": (token("all"), {"1", "2", "3", "99"}, False),
}
FORMATS = ("application/json", "text/csv", "application/vnd.apache.parquet")


@pytest.mark.parametrize("name", IDENTITIES)
def test_no_answer_holds_data_of_other_stores(signed, name):
    """Every caller, route and format: no answer holds a store that was not granted."""
    text, may_see, is_operator = IDENTITIES[name]
    headers = bearer(text) if text else {}
    everything = "store_id=1&store_id=2&store_id=3&store_id=99"
    for accept in FORMATS:
        for store in ("1", "2", "3", "99"):
            for url in (
                f"/v1/stores/{store}/forecast",
                f"/v1/stores/{store}/forecast?as_of=2026-11-22",
                f"/v1/stores/{store}/forecast?item_id=a",
                f"/v1/stores/{store}/history",
                f"/results/{store}",
                f"/results/{store}.csv",
            ):
                answer = signed.api.get(url, headers={**headers, "Accept": accept})
                expected = 200 if store in may_see else 403
                if expected == 200 and store == "99":
                    expected = 404
                assert answer.status_code == (expected if text else 401), (url, accept)
                assert_only(answer.content, {store} & may_see)
        for url in ("/v1/stores", "/v1/stores?outcome=ok", f"/v1/forecasts:batchGet?{everything}"):
            answer = signed.api.get(url, headers={**headers, "Accept": accept})
            assert answer.status_code == (200 if text else 401)
            assert_only(answer.content, may_see)
    for url in ("/v1/runs/current", "/v1/runs/run-2026-11-22-a", "/v1/releases"):
        answer = signed.api.get(url, headers=headers)
        assert answer.status_code == (200 if is_operator else 403 if text else 401)


def assert_only(content: bytes, stores: set[str]) -> None:
    for store in ("1", "2", "3"):
        if store not in stores:
            assert f"of-{store}".encode() not in content


def test_forbidden_and_unknown_stores_give_the_same_problem(signed):
    forbidden = signed.api.get("/v1/stores/2/forecast", headers=bearer(token())).json()
    unknown = signed.api.get("/v1/stores/9/forecast", headers=bearer(token())).json()
    named = {"detail": "", "instance": "", "store_id": ""}
    assert {**forbidden, **named} == {**unknown, **named}
    assert forbidden["detail"].replace("store 2", "") == unknown["detail"].replace("store 9", "")


def test_no_caller_gets_a_cached_reply_of_another(signed):
    url = "/v1/stores"
    for _ in range(3):
        first = signed.api.get(url, headers=bearer(token("anna"))).json()
        second = signed.api.get(
            url, headers=bearer(token("b", email="ben@example.com", email_verified=True))
        ).json()
        assert [store["store_id"] for store in first["stores"]] == ["1"]
        assert [store["store_id"] for store in second["stores"]] == ["2", "3"]
        assert signed.api.get(url).status_code == 401


def test_too_many_requests_of_one_caller(tmp_path):
    bucket = Bucket.make(tmp_path)
    bucket.publish(STORES)
    write_grants(bucket.storage, *GRANTS)
    with (
        serve_keys(key_set("k1")) as key_server,
        serve(
            str(tmp_path),
            issuers=(key_server.issuer(),),
            requests_per_second=0.5,
            burst=3,
            clock=Clock(),
        ) as api,
    ):

        def status(subject: str) -> int:
            return api.get("/v1/stores/1/forecast", headers=bearer(token(subject))).status_code

        assert [status("anna") for _ in range(5)] == [200, 200, 200, 429, 429]
        answer = api.get("/v1/stores/1/forecast", headers=bearer(token("anna")))
        assert answer.headers["retry-after"] == "2"
        assert answer.json()["type"] == "/problems/too-many-requests"
        assert status("all") == 200  # the limit is that of one caller
        api.clock.now += timedelta(seconds=2)
        assert [status("anna") for _ in range(2)] == [200, 429]


def test_a_development_token_signs_in(tmp_path):
    key = open_key(tmp_path / "keys")
    bucket = Bucket.make(tmp_path / "bucket")
    bucket.publish(STORES)
    issuer = Issuer.model_validate(key.issuer)
    write_grants(bucket.storage, {"issuer": issuer.issuer, "subject": "dev", "stores": ["1"]})
    text = key.token(
        subject="dev", email=None, audience=issuer.audience, now=NOON, lifetime=timedelta(hours=1)
    )
    with serve(str(tmp_path / "bucket"), issuers=(issuer,)) as api:
        assert api.get("/v1/stores/1/forecast", headers=bearer(text)).status_code == 200
        assert api.get("/v1/stores/2/forecast", headers=bearer(text)).status_code == 403
