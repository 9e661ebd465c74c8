"""Who may see what."""

from __future__ import annotations

import pytest

from ray_job.bucket import keys
from tests.api.fixtures.bucket import Bucket
from tests.api.fixtures.serving import serve
from tests.api.fixtures.sign_in import STORES
from tests.api.fixtures.tokens import bearer, key_set, serve_keys, token, write_grants


def test_a_store_needs_a_token_and_a_grant(signed):
    assert signed.status(token()) == 200
    assert signed.status(token(), "/v1/stores/2/forecast") == 403
    assert signed.status(token("stranger")) == 403
    denied = signed.api.get("/v1/stores/1/forecast")
    assert denied.status_code == 401
    assert denied.headers["www-authenticate"].startswith("Bearer")
    assert denied.json()["type"] == "/problems/sign-in"


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
