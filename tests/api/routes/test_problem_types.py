"""`/problems/<slug>`: each type of problem is the address of a page that explains it."""

from __future__ import annotations

import pytest

from api.problems import KINDS_BY_SLUG


@pytest.mark.parametrize("slug", sorted(KINDS_BY_SLUG))
def test_each_type_has_a_page(running_api, slug):
    answer = running_api.get(f"/problems/{slug}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert KINDS_BY_SLUG[slug].title in answer.text.replace("&#39;", "'")
    assert f"status {KINDS_BY_SLUG[slug].status}" in answer.text


def test_the_pages_say_what_to_do_and_where_it_comes_from(running_api):
    expired = running_api.get("/problems/forecast-expired").text
    assert "expired_since" in expired
    assert "GET /v1/stores/{store_id}/forecast" in expired
    assert "GET /v1/me" not in expired
    assert "/problems/no-data" in running_api.get("/problems").text
    unknown = running_api.get("/problems/none")
    assert (unknown.status_code, unknown.json()["type"]) == (404, "/problems/not-found")


def test_the_type_of_a_problem_leads_to_its_page(running_api):
    problem = running_api.get("/v1/stores/5/forecast").json()
    assert "No sales were ever delivered" in running_api.get(problem["type"]).text
