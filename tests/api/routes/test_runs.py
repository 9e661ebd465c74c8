"""`/v1/runs` and `/v1/releases`."""

from __future__ import annotations

from api.views.access_schemas import ReleaseList
from ray_job.bucket import receipts
from ray_job.bucket.receipts import Receipt
from tests.api.fixtures.answers import fits
from tests.api.fixtures.bucket import AS_OF, Bucket, StoreSpec
from tests.api.fixtures.records import receipt
from tests.api.fixtures.serving import serve


def test_receipts(tmp_path):
    bucket = Bucket.make(tmp_path)
    bucket.publish([StoreSpec("1")])
    receipts.write(bucket.storage, receipt("run-2026-11-22-a"))
    receipts.write(bucket.storage, receipt("2026-11-22-refused", status="refused", published=False))
    receipts.write(bucket.storage, receipt("20261122-20261123T000512-4f", status="held"))
    with serve(str(tmp_path)) as api:
        assert api.get("/v1/runs/20261122-20261123T000512-4f").json()["status"] == "held"
        current = api.get("/v1/runs/current")
        assert Receipt.model_validate_json(current.content) == receipt("run-2026-11-22-a")
        assert api.get("/v1/runs/run-2026-11-22-a").content == current.content
        assert api.get("/v1/runs/2026-11-22-refused").json()["status"] == "refused"
        for unknown in ("2026-11-22-other", "nonsense", "2026-99-99"):
            answer = api.get(f"/v1/runs/{unknown}")
            assert (answer.status_code, answer.json()["type"]) == (404, "/problems/unknown-run")
        assert api.get("/v1/runs/..%2F..%2Fcurrent").status_code == 404
        assert api.get("/v1/runs/-x").status_code == 422


def test_releases_newest_first_in_pages(tmp_path):
    bucket = Bucket.make(tmp_path)
    for name in ("a", "b", "c"):
        bucket.publish([StoreSpec("1")], name=name)
    bucket.change(bad=("b",), hold_through=AS_OF)
    with serve(str(tmp_path)) as api:
        answer = api.get("/v1/releases?page_size=2")
        fits(ReleaseList, answer.content)
        body = answer.json()
        assert (body["current"], body["hold_through"]) == ("c", "2026-11-22")
        assert [
            (entry["release"], entry["is_current"], entry["is_bad"]) for entry in body["releases"]
        ] == [
            ("c", True, False),
            ("b", False, True),
        ]
        bucket.publish([StoreSpec("1")], name="d")
        api.refresh()
        last_page = api.get(f"/v1/releases?page_token={body['next_page_token']}").json()
        assert [entry["release"] for entry in last_page["releases"]] == ["a"]
        assert last_page["next_page_token"] is None
