"""What is answered where there is no forecast to give."""

from __future__ import annotations

import pytest


def test_problems_of_stores_without_a_forecast(running_api):
    expired = running_api.get("/v1/stores/4/forecast")
    assert expired.status_code == 404
    assert expired.headers["content-type"] == "application/problem+json"
    assert expired.json() == {
        "type": "/problems/forecast-expired",
        "title": "The forecast has no day left",
        "status": 404,
        "detail": (
            "the last forecast of store 4 was made from sales through Friday 13 November 2026"
            " and ended with Friday 20 November 2026"
        ),
        "instance": "/v1/stores/4/forecast",
        "store_id": "4",
        "last_target_date": "2026-11-20",
        "expired_since": "2026-11-21",
        "release": "2026-11-22-a",
        "as_of": "2026-11-13",
        "data_through": "2026-11-22",
        "outcome": "failed",
        "reason": "storage failed",
    }
    no_data = running_api.get("/v1/stores/5/forecast")
    assert (no_data.status_code, no_data.json()["type"]) == (404, "/problems/no-data")
    never = running_api.get("/v1/stores/6/forecast")
    assert (never.status_code, never.json()["type"]) == (404, "/problems/no-forecast")
    assert "no model" in never.json()["detail"]
    unknown = running_api.get("/v1/stores/77/forecast")
    assert (unknown.status_code, unknown.json()["type"]) == (404, "/problems/unknown-store")


@pytest.mark.parametrize(
    ("max_age", "status"),
    [("0", 409), ("2", 409), ("3", 200), ("100", 200), ("-1", 422), ("x", 422)],
)
def test_a_caller_may_refuse_an_old_forecast(running_api, max_age, status):
    # Store 3 has sales through 19 November. At noon of the 23rd those of the 22nd are due.
    answer = running_api.get(f"/v1/stores/3/forecast?max_age_days={max_age}")
    assert answer.status_code == status


@pytest.mark.parametrize(
    "query",
    [
        "as_of=2026-13-01",
        "as_of=soon",
        "page_size=0",
        "page_size=-1",
        "page_size=x",
        "csv_delimiter=pipe",
        "fields=nothing",
        "page_token=x",
        "page_token=%00",
        "page_token=bnVsbA",
        "page_token=WyJmb3JlY2FzdC8yIiwiMjAyNi0xMS0yMi1hIiwxXQ",  # a token of store 2
        "target_date=1",
    ],
)
def test_invalid_parameters(running_api, query):
    answer = running_api.get(f"/v1/stores/1/forecast?{query}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "/problems/invalid"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("..%2fx", 404),
        ("%2f", 404),
        ("%00", 422),
        ("1" + "0" * 30, 404),
        ("a" * 200, 422),
        ("a.b", 422),
        ("%ff", 422),
        ("ü", 422),
    ],
)
def test_invalid_store_ids(running_api, path, status):
    answer = running_api.get(f"/v1/stores/{path}/forecast")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
