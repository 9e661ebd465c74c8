"""What a token must be."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from api.settings import Issuer
from ray_job.operations.development_token import open_key
from tests.api.fixtures.bucket import NOON, Bucket
from tests.api.fixtures.serving import serve
from tests.api.fixtures.sign_in import STORES
from tests.api.fixtures.tokens import (
    AUDIENCE,
    PROXY,
    bearer,
    claims,
    ec_key,
    proxy_token,
    public_pem,
    rsa_key,
    token,
    unsigned,
    write_grants,
)


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


def test_a_new_token_with_each_request_gets_the_cached_reply(signed):
    before = len(signed.api.app.replies)
    for number in range(5):
        text = proxy_token("7", email="ida@example.com", jti=str(number))
        answer = signed.api.get("/v1/stores/3/forecast", headers={"X-Goog-IAP-JWT-Assertion": text})
        assert answer.status_code == 200
    assert len(signed.api.app.replies) == before + 1


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
