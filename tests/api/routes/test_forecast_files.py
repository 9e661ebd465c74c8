"""A store's forecast as CSV and as Parquet."""

from __future__ import annotations

import csv
import io

import pyarrow as pa
import pyarrow.parquet as pq

from api.routes.parameters import page_limit

PARQUET = "application/vnd.apache.parquet"


def test_csv(running_api):
    for answer in (
        running_api.get("/v1/stores/2/forecast", headers={"Accept": "text/csv"}),
        running_api.get("/results/2.csv"),
        running_api.get("/results/2.csv", headers={"Accept": "application/json"}),
    ):
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
        assert len(rows) == 7 + 5 * 7
        assert rows[0]["level"] == "store"
        assert rows[0]["predicted_sales"] == "2605.0"
        assert rows[7] | {"generated_at": "", "published_at": ""} == {
            "level": "item",
            "store_id": "2",
            "item_id": "a",
            "target_date": "2026-11-23",
            "weekday": "Monday",
            "days_ahead": "1",
            "predicted_sales": "501.0",
            "lower_80": "500.0",
            "upper_80": "502.0",
            "method": "model",
            "missing": "",
            "last_week_sales": "",
            "last_year_sales": "",
            "special": "",
            "as_of": "2026-11-22",
            "generated_at": "",
            "data_through": "2026-11-22",
            "data_age_days": "0",
            "run_id": "run-2026-11-22-a",
            "model_version": "m1",
            "stale": "false",
            "stale_reason": "",
            "carried_since": "",
            "outcome": "ok",
            "reason_code": "",
            "reason": "",
            "release": "2026-11-22-a",
            "unread_since": "",
            "published_at": "",
            "time_zone": "Europe/Berlin",
            "unit": "",
            "currency": "",
        }


def test_parquet(running_api):
    accept = {"Accept": PARQUET}
    answer = running_api.get("/v1/stores/2/forecast", headers=accept)
    table = pq.read_table(pa.BufferReader(answer.content))
    assert table.num_rows == 42
    assert table.column("predicted_sales")[7].as_py() == 501.0
    assert table.column("stale")[0].as_py() is False


def test_a_file_has_all_rows_or_says_that_it_is_cut(running_api):
    whole = running_api.get("/results/2.csv")
    assert whole.headers["storecast-complete"] == "true"
    assert whole.headers["content-disposition"] == 'attachment; filename="store-2-2026-11-22.csv"'
    assert "next" not in whole.links
    accept = {"Accept": PARQUET}
    cut = running_api.get("/v1/stores/2/forecast?page_size=2", headers=accept)
    assert pq.read_table(pa.BufferReader(cut.content)).num_rows == 7 + 2 * 7
    assert cut.headers["storecast-complete"] == "false"
    name = cut.headers["content-disposition"]
    assert name == 'attachment; filename="store-2-2026-11-22-part.parquet"'
    second = running_api.get(cut.links["next"]["url"], headers=accept)
    assert second.headers["storecast-complete"] == "false"
    assert [page_limit(None, answer_format) for answer_format in ("json", "csv")] == [100, 2500]
    assert "content-disposition" not in running_api.get("/v1/stores/2/forecast").headers


def test_csv_for_a_spreadsheet_of_another_country(running_api):
    query = "csv_delimiter=semicolon&csv_decimal=comma&csv_bom=true"
    answer = running_api.get(f"/results/2.csv?{query}")
    assert answer.content.startswith(b"\xef\xbb\xbflevel;store_id;")
    text = answer.content.decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=";"))
    assert [row["predicted_sales"] for row in rows[7:9]] == ["501,0", "502,0"]
    assert len(rows) == 42


def test_pages_of_csv_are_linked(running_api):
    answer = running_api.get("/results/2.csv?page_size=2")
    next_url = answer.links["next"]["url"]
    rows = list(csv.DictReader(io.StringIO(running_api.get(next_url).text, newline="")))
    assert [row["item_id"] for row in rows if row["level"] == "item"] == ["c"] * 7 + ["d"] * 7


def test_a_format_that_the_route_does_not_offer(running_api):
    answer = running_api.get("/v1/stores/1/forecast", headers={"Accept": "image/png"})
    assert answer.status_code == 406
    assert answer.json()["type"] == "/problems/not-acceptable"
    assert running_api.get("/results/1.csv", headers={"Accept": "image/png"}).status_code == 200
