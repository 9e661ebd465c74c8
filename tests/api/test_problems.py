"""Errors that are no answer of a route."""

from __future__ import annotations

from tests.api.fixtures.bucket import Bucket, StoreSpec
from tests.api.fixtures.serving import serve


def test_unknown_paths_and_methods_are_problems(tmp_path):
    with serve(str(tmp_path)) as api:
        for method, path, status in (
            ("GET", "/v2", 404),
            ("POST", "/v1/stores/1/forecast", 405),
        ):
            answer = api.client.request(method, path)
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == status


def test_an_unexpected_error_is_a_problem_without_details(tmp_path, monkeypatch):
    Bucket.make(tmp_path).publish([StoreSpec("1")])
    with serve(str(tmp_path)) as api:

        async def fail(*_: object) -> None:
            raise RuntimeError("a secret path")

        monkeypatch.setattr(api.service, "snapshot_as_of", fail)
        answer = api.get("/v1/stores/1/forecast")
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert "secret" not in answer.text
        key = ("requests_total", "GET", "/v1/stores/{store_id}/forecast", "500")
        assert api.metrics()[key] == 1
