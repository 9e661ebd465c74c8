"""`GET /v1/me`."""

from __future__ import annotations

from api.views.access_schemas import Me
from tests.api.fixtures.answers import fits
from tests.api.fixtures.bucket import STORES, Bucket
from tests.api.fixtures.serving import serve
from tests.api.fixtures.tokens import ISSUER, bearer, key_set, serve_keys, token, write_grants


def test_who_the_caller_is_and_what_he_may_see(tmp_path):
    bucket = Bucket.make(tmp_path)
    bucket.publish(STORES)
    write_grants(
        bucket.storage,
        {"email": "ben@example.com", "stores": ["3", "2", "77"]},
        {"subject": "olga", "stores": "*", "role": "operator"},
    )
    with (
        serve_keys(key_set("k1")) as key_server,
        serve(str(tmp_path), issuers=(key_server.issuer(),)) as api,
    ):
        ben = token("b", email="ben@example.com", email_verified=True)
        assert fits(Me, api.get("/v1/me", headers=bearer(ben)).content).model_dump(mode="json") == {
            "sign_in": True,
            "issuer": ISSUER,
            "subject": "b",
            "email": "ben@example.com",
            "expires_at": "2026-11-23T12:00:30Z",
            "role": "manager",
            "every_store": False,
            "stores": ["2", "3", "77"],
            "stores_total": 2,
        }
        operator = api.get("/v1/me", headers=bearer(token("olga"))).json()
        assert (operator["role"], operator["every_store"]) == ("operator", True)
        assert (operator["stores"], operator["stores_total"]) == (None, 6)
        nobody = api.get("/v1/me", headers=bearer(token("eve"))).json()
        assert (nobody["stores"], nobody["stores_total"]) == ([], 0)
        assert api.get("/v1/me").status_code == 401


def test_without_sign_in_everybody_may_see_everything(running_api):
    me = running_api.get("/v1/me").json()
    assert (me["sign_in"], me["every_store"], me["subject"]) == (False, True, None)
