"""Tokens of pages."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.problems import InvalidError
from api.routes.page_tokens import PageToken, decode
from tests.api.fixtures.bucket import AS_OF, Bucket, StoreSpec
from tests.api.fixtures.records import DAY
from tests.api.fixtures.serving import RunningApi, serve


@given(st.text(max_size=30))
def test_a_forged_page_token_is_refused(text):
    try:
        token = decode(text, "stores")
    except InvalidError:
        return
    assert token == decode(token.encode(), "stores")


@given(st.text(max_size=20), st.text(max_size=20), st.integers(0, 2**53 - 1))
def test_a_page_token_is_decoded(list_name, release, position):
    token = PageToken(list_name, release, position, (("q", list_name), ("page_size", "3")))
    assert decode(token.encode(), list_name) == token
    with pytest.raises(InvalidError):
        decode(token.encode(), f"{list_name}x")


def forged(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters(), max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.tuples(st.just("x"), JSON, st.integers(0, 9) | JSON, JSON), JSON)
def test_whatever_json_a_token_holds_it_is_one_or_refused(near, content):
    for forgery in (near, content):
        try:
            token = decode(forged(forgery), "x")
        except InvalidError:
            continue
        assert decode(token.encode(), "x") == token


@pytest.mark.parametrize(
    "content",
    [
        ["forecast/1", "\ud800", 1, [["\udfff", "\ud800"]]],
        ["forecast/1", "a", 1, [["\ud800", "x"]]],
        ["forecast/1", "../../a", 1, []],
        ["forecast/1", "a", 10**300, []],
        ["forecast/1", "a", float("inf"), []],
        ["forecast/1", "a", True, []],
        ["forecast/1", "a", 1, {"ab": 1}],
        ["forecast/1", "a", 1, [["page_token", "x"]]],
        "abc",
    ],
)
def test_a_forged_token_is_the_callers_mistake(paged_api, content):
    answer = paged_api.get(f"/v1/stores/1/forecast?page_token={forged(content)}")
    assert answer.status_code in (410, 422)


def test_a_token_that_is_damaged_anywhere_is_the_callers_mistake(paged_api):
    token = paged_api.get(LISTS[0]).json()["next_page_token"]
    for place in range(0, len(token), 3):
        damaged = f"{token[:place]}~{token[place + 1 :]}"
        answer = paged_api.get("/v1/stores/1/forecast", params={"page_token": damaged})
        assert answer.status_code == 422
        other = "A" if token[place] != "A" else "B"
        damaged = f"{token[:place]}{other}{token[place + 1 :]}"
        answer = paged_api.get("/v1/stores/1/forecast", params={"page_token": damaged})
        assert answer.status_code in (200, 404, 410, 422)


@pytest.fixture(scope="module")
def paged_api(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bucket")
    bucket = Bucket.make(folder)
    items = tuple("abcdefgh")
    for as_of in (AS_OF - 2 * DAY, AS_OF):
        bucket.publish(
            [StoreSpec(name, items=items, as_of=as_of) for name in ("1", "2", "3", "4")],
            as_of=as_of,
        )
    with serve(str(folder)) as api:
        yield api


LISTS = [
    f"/v1/stores/1/forecast?as_of={AS_OF - 2 * DAY}&page_size=3",
    f"/v1/stores/1/forecast?target_date={AS_OF + DAY}&max_age_days=9&page_size=3",
    "/v1/stores/1/forecast?fields=items&fields=as_of&page_size=3",
    "/v1/stores?page_size=1&outcome=ok&sort=-store_id",
    "/v1/stores?page_size=2&stale=false&q=%20",
    f"/results/2?as_of={AS_OF - 2 * DAY}&page_size=5",
    "/v1/releases?page_size=1",
]


def pages(api: RunningApi, url: str, follow: str) -> list[dict[str, object]]:
    """All pages of a list. The next address is `follow` and the token."""
    answers = [api.get(url).json()]
    while token := answers[-1]["next_page_token"]:
        separator = "&" if "?" in follow else "?"
        answer = api.get(f"{follow}{separator}page_token={token}")
        assert answer.status_code == 200, answer.text
        answers.append({**answer.json()})
    for page in answers:
        del page["next_page_token"]
    return answers


@pytest.mark.parametrize("url", LISTS)
def test_a_token_alone_gives_what_it_gives_with_all_parameters(paged_api, url):
    alone = pages(paged_api, url, url.partition("?")[0])
    assert alone == pages(paged_api, url, url)
    assert len(alone) > 1


def test_the_page_size_may_change(paged_api):
    first = paged_api.get("/v1/stores?page_size=1").json()
    answer = paged_api.get(f"/v1/stores?page_token={first['next_page_token']}&page_size=2").json()
    assert [store["store_id"] for store in answer["stores"]] == ["2", "3"]


@pytest.mark.parametrize(
    ("url", "contradiction"),
    [
        (LISTS[0], f"as_of={AS_OF}"),
        (LISTS[0], f"as_of={AS_OF - 2 * DAY}&target_date={AS_OF}"),
        (LISTS[2], "fields=items"),
        (LISTS[3], "outcome=failed"),
        (LISTS[3], "sort=store_id"),
        (LISTS[3], "q=x"),
    ],
)
def test_a_parameter_that_contradicts_the_token_is_refused(paged_api, url, contradiction):
    token = paged_api.get(url).json()["next_page_token"]
    answer = paged_api.get(f"{url.partition('?')[0]}?{contradiction}&page_token={token}")
    assert answer.status_code == 422
    assert "contradicts the page token" in answer.json()["detail"]


def test_a_token_of_a_newer_release_makes_the_process_read_the_pointer(tmp_path):
    """As when two processes serve, and the other one has seen the pointer first."""
    bucket = Bucket.make(tmp_path)
    specs = [StoreSpec("1"), StoreSpec("2")]
    bucket.publish(specs)
    with serve(str(tmp_path)) as first, serve(str(tmp_path), refresh_seconds=10) as second:
        second.refresh()
        bucket.publish(specs, name="newer")
        first.refresh()
        token = first.get("/v1/stores?page_size=1").json()["next_page_token"]
        answer = second.get(f"/v1/stores?page_token={token}")
        assert answer.status_code == 200
        assert answer.json()["release"] == "newer"


def test_an_as_of_that_is_newer_makes_the_process_read_the_pointer(tmp_path):
    bucket = Bucket.make(tmp_path)
    earlier = AS_OF - DAY
    bucket.publish([StoreSpec("1", as_of=earlier)], as_of=earlier)
    with serve(str(tmp_path), refresh_seconds=10) as api:
        api.refresh()
        bucket.publish([StoreSpec("1")])
        assert api.get(f"/v1/stores/1/forecast?as_of={AS_OF}").status_code == 200
        assert api.get(f"/v1/stores/1/forecast?as_of={AS_OF + DAY}").status_code == 404
