"""Query strings that a route does not know."""

from __future__ import annotations

import pytest

from tests.api.fixtures.serving import RunningApi

PATHS = (
    "/v1/stores",
    "/v1/stores/1/forecast",
    "/v1/stores/1/history",
    "/results/1",
    "/results/1.csv",
    "/v1/runs/current",
    "/v1/releases",
    "/v1/me",
)


@pytest.mark.parametrize("path", PATHS)
def test_unknown_parameters_are_refused_and_never_cached(running_api: RunningApi, path):
    entries = len(running_api.app.replies)
    for number in range(3):
        answer = running_api.get(f"{path}?made_up={number}")
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["parameter"] == "made_up"
    assert len(running_api.app.replies) == entries


def test_the_answer_names_the_parameters_that_there_are(running_api: RunningApi):
    answer = running_api.get("/v1/stores/1/history?day=3")
    assert "days" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("page_size=3&page_size=4", 422),
        ("page_size=3&page_size=3", 422),
        ("fields=stale&fields=days", 200),
        ("page_size=3&stale=false", 200),
    ],
)
def test_a_parameter_with_one_value_is_given_once(running_api: RunningApi, query, status):
    assert running_api.get(f"/v1/stores?{query}").status_code == status


@pytest.mark.parametrize(
    ("day", "status"),
    [
        ("2026-11-22", 200), ("9999-12-31", 404), ("0001-01-01", 404), ("0000-01-01", 422),
        ("20261122", 422), ("1764201600", 422), ("-1", 422), ("inf", 422), ("", 422),
        ("2026-11-22T00:00:00", 422), ("2026-11-22 ", 422), ("2026-02-30", 422),
        ("٢٠٢٦-١١-٢٢", 422),
    ],
)  # fmt: skip
def test_a_day_is_written_as_a_day(running_api: RunningApi, day, status):
    assert running_api.get("/v1/stores/2/forecast", params={"as_of": day}).status_code == status
    assert running_api.get("/results/2.csv", params={"as_of": day}).status_code == status


def test_the_page_refuses_them_too(running_api: RunningApi):
    answer = running_api.get("/?made_up=1")
    assert answer.status_code == 422
    assert "made_up" in answer.text


@pytest.mark.parametrize(
    "query", ["page=0", "page=x", f"page={'9' * 500}", "order=%3Cscript%3E", f"q={'x' * 101}"]
)
def test_what_the_page_cannot_read_is_a_problem_on_a_page(running_api: RunningApi, query):
    answer = running_api.get(f"/?{query}", headers={"Accept-Language": "de"})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "Eine Angabe in der Adresse ist falsch" in answer.text
    assert "<script>" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
