from __future__ import annotations

from datetime import timedelta

from api.schemas import ReleaseList
from ray_job.bucket import receipts
from ray_job.bucket.receipts import Receipt
from tests.api.bucket import AS_OF, NOON, Bucket, StoreSpec
from tests.api.serving import serve


def receipt(run_id: str, **changes) -> Receipt:
    said = {
        "run_id": run_id,
        "status": "published",
        "exit_code": 0,
        "as_of": AS_OF,
        "release": "2026-11-22-a",
        "published": True,
        "started_at": NOON,
        "finished_at": NOON + timedelta(seconds=9),
        "seconds": 9.0,
    }
    return Receipt(**{**said, **changes})


def test_receipts(tmp_path):
    bucket = Bucket.make(tmp_path)
    bucket.publish([StoreSpec("1")])
    receipts.write(bucket.storage, receipt("run-2026-11-22-a"))
    receipts.write(bucket.storage, receipt("2026-11-22-refused", status="refused", published=False))
    receipts.write(bucket.storage, receipt("20261122-20261123T000512-4f", status="held"))
    with serve(str(tmp_path)) as served:
        assert served.get("/v1/runs/20261122-20261123T000512-4f").json()["status"] == "held"
        current = served.get("/v1/runs/current")
        assert Receipt.model_validate_json(current.content) == receipt("run-2026-11-22-a")
        assert served.get("/v1/runs/run-2026-11-22-a").content == current.content
        assert served.get("/v1/runs/2026-11-22-refused").json()["status"] == "refused"
        for unknown in ("2026-11-22-other", "nonsense", "2026-99-99"):
            answer = served.get(f"/v1/runs/{unknown}")
            assert (answer.status_code, answer.json()["type"]) == (404, "/problems/unknown-run")
        assert served.get("/v1/runs/..%2F..%2Fcurrent").status_code == 404
        assert served.get("/v1/runs/-x").status_code == 422


def test_releases_newest_first_in_pages(tmp_path):
    bucket = Bucket.make(tmp_path)
    for name in ("a", "b", "c"):
        bucket.publish([StoreSpec("1")], name=name)
    bucket.change(bad=("b",), hold_through=AS_OF)
    with serve(str(tmp_path)) as served:
        answer = served.get("/v1/releases?page_size=2")
        ReleaseList.model_validate_json(answer.content)
        body = answer.json()
        assert (body["current"], body["hold_through"]) == ("c", "2026-11-22")
        assert [
            (each["release"], each["is_current"], each["is_bad"]) for each in body["releases"]
        ] == [
            ("c", True, False),
            ("b", False, True),
        ]
        bucket.publish([StoreSpec("1")], name="d")
        served.refresh()
        after = served.get(f"/v1/releases?page_token={body['next_page_token']}").json()
        assert [each["release"] for each in after["releases"]] == ["a"]
        assert after["next_page_token"] is None
