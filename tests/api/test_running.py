from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.settings import Settings
from ray_job.bucket import keys, parts, releases
from ray_job.bucket.errors import SettingsError
from tests.api.bucket import AS_OF, STORES, Bucket, StoreSpec
from tests.api.serving import serve, wait_until


def metrics_of(served) -> dict[tuple[str, ...], float]:
    return {
        (sample.name.removeprefix("storecast_api_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(served.get("/metrics").text)
        for sample in family.samples
    }


def test_before_anything_was_published(tmp_path):
    with serve(str(tmp_path)) as served:
        assert served.get("/livez").status_code == 200
        assert served.get("/startupz").status_code == 200
        assert served.get("/readyz").status_code == 503
        answer = served.get("/v1/stores/1/forecast")
        assert answer.status_code == 503
        assert answer.json()["type"] == "/problems/no-release"
        assert answer.headers["retry-after"] == "5"
        Bucket.make(tmp_path).publish([StoreSpec("1")])
        served.refresh()
        assert served.get("/readyz").json()["as_of"] == "2026-11-22"
        assert served.get("/v1/stores/1/forecast").status_code == 200


def test_what_is_served_is_measured(tmp_path):
    Bucket.make(tmp_path).publish(STORES)
    with serve(str(tmp_path)) as served:
        found = metrics_of(served)
        assert found["served_as_of_timestamp_seconds",] == 1795305600  # 2026-11-22T00:00:00Z
        # the next forecast is due on Tuesday at six in Berlin, 18 hours after Monday noon there
        assert found["seconds_past_deadline",] == -17 * 3600 - 3600
        assert found["stores", "ok"] == 2
        assert found["stores", "failed"] == 3
        assert found["stores", "no_data"] == 1
        assert found["stale_stores",] == 4
        assert found["late_stores",] == 1


def test_an_answer_costs_no_storage_read(tmp_path):
    Bucket.make(tmp_path).publish(STORES)
    with serve(str(tmp_path), refresh_seconds=10) as served:
        before = metrics_of(served)
        for _ in range(5):
            served.get("/v1/stores/2/forecast")
            served.get("/results/3.csv")
        after = metrics_of(served)
        reads = [key for key in before if key[0] == "storage_reads_total"]
        assert {key: before[key] for key in reads} == {key: after[key] for key in reads}
        assert before["storage_reads_total", "part"] == 1


def test_a_new_release_is_swapped_in_and_a_broken_one_is_not(tmp_path):
    bucket = Bucket.make(tmp_path)
    bucket.publish([StoreSpec("1", base=100)])
    with serve(str(tmp_path)) as served:
        bucket.publish([StoreSpec("1", base=200)], name="second")
        served.refresh()
        body = served.get("/v1/stores/1/forecast").json()
        assert (body["release"], body["days"][0]["predicted_sales"]) == ("second", 201.0)
        entry = bucket.publish([StoreSpec("1", base=300)], name="third", point=False)
        path = tmp_path / keys.release("third")
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
        bucket.point(entry)
        served.refresh()
        body = served.get("/v1/stores/1/forecast").json()
        assert body["release"] == "second"
        assert served.get("/readyz").json()["release_refused"] is True
        assert metrics_of(served)["release_refused",] == 1


def test_a_broken_part_is_as_bad_as_a_broken_release(tmp_path):
    bucket = Bucket.make(tmp_path)
    then = AS_OF - timedelta(days=1)
    bucket.publish([StoreSpec("1", base=100, as_of=then)], as_of=then)
    bucket.publish([StoreSpec("1", base=200)])
    path = tmp_path / keys.part(AS_OF, "2026-11-22-a0", 0)
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    with serve(str(tmp_path)) as served:  # starts with the newest that can be verified
        body = served.get("/v1/stores/1/forecast").json()
        assert (body["as_of"], body["stale"]) == ("2026-11-21", True)
        data[40] ^= 1
        path.write_bytes(data)
        served.refresh()
        assert served.get("/v1/stores/1/forecast").json()["as_of"] == "2026-11-22"


def test_a_lost_bucket_is_told_and_the_last_snapshot_served(tmp_path):
    folder = tmp_path / "bucket"
    Bucket.make(folder).publish([StoreSpec("1")])
    with serve(str(folder)) as served:
        folder.rename(tmp_path / "away")
        served.refresh()
        body = served.get("/v1/stores/1/forecast").json()
        assert body["unread_since"] == "2026-11-23T11:00:00Z"
        assert served.get("/readyz").status_code == 200
        (tmp_path / "away").rename(folder)
        served.refresh()
        assert served.get("/v1/stores/1/forecast").json()["unread_since"] is None


def test_unknown_paths_and_methods_are_problems(tmp_path):
    with serve(str(tmp_path)) as served:
        for method, path, status in (
            ("GET", "/v2", 404),
            ("POST", "/v1/stores/1/forecast", 405),
        ):
            answer = served.client.request(method, path)
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == status


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("STORECAST_API_BUCKET", "gs://b")
    monkeypatch.setenv(
        "STORECAST_API_ISSUERS",
        '[{"issuer": "https://i", "jwks": "https://i/keys", "audience": "a"}]',
    )
    monkeypatch.setenv("STORECAST_API_HOST", "0.0.0.0")  # noqa: S104 - what is tested
    settings = Settings.load()
    assert settings.issuers[0].algorithms == ("RS256",)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"HOST": "0.0.0.0"}, "sign-in is off"),  # noqa: S104
        ({"PORT": "x"}, "STORECAST_API_PORT"),
        ({"REFRESH_SECONDS": "60"}, "STORECAST_API_REFRESH_SECONDS"),
        (
            {
                "ISSUERS": '[{"issuer":"i","jwks":"https://i","audience":"a","algorithms":["HS256"]}]'
            },
            "algorithms",
        ),
        ({"ISSUERS": '[{"issuer":"i","jwks":"http://i.example","audience":"a"}]'}, "jwks"),
        ({"ISSUERS": "nonsense"}, "issuers"),
    ],
)
def test_settings_that_do_not_fit(monkeypatch, variables, says):
    monkeypatch.setenv("STORECAST_API_BUCKET", "b")
    for name, value in variables.items():
        monkeypatch.setenv(f"STORECAST_API_{name}", value)
    with pytest.raises(SettingsError, match=says):
        Settings.load()


def test_an_error_of_its_own_is_a_problem_that_tells_nothing(tmp_path, monkeypatch):
    Bucket.make(tmp_path).publish([StoreSpec("1")])
    with serve(str(tmp_path)) as served:

        async def fail(*_: object) -> None:
            raise RuntimeError("a secret path")

        monkeypatch.setattr(served.service, "as_of", fail)
        answer = served.get("/v1/stores/1/forecast")
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert "secret" not in answer.text
        key = ("requests_total", "GET", "/v1/stores/{store_id}/forecast", "500")
        assert metrics_of(served)[key] == 1


def test_alive_is_a_process_that_still_looks_at_the_bucket(tmp_path):
    with serve(str(tmp_path)) as served:
        assert served.get("/livez").status_code == 200
        served.loop.call_soon_threadsafe(served.service.refresh_task.cancel)
        wait_until(lambda: served.get("/livez").status_code == 503)


def test_a_restart_finds_its_parts_again(tmp_path):
    bucket = Bucket.make(tmp_path / "bucket")
    bucket.publish(STORES, parts_per_run=2)
    cache = tmp_path / "cache"
    for expected in (2, 0):
        with serve(str(tmp_path / "bucket"), cache_dir=cache) as served:
            assert served.get("/v1/stores/2/forecast").status_code == 200
            assert metrics_of(served).get(("storage_reads_total", "part"), 0) == expected
    with serve(str(tmp_path / "bucket"), cache_dir=cache) as served:
        for name in ("b", "c"):
            bucket.publish([StoreSpec("1")], name=name)
            served.refresh()
        # the parts of what is served and of what was served before
        wait_until(lambda: len(list(cache.glob("*.arrow"))) == 2)


def test_a_part_with_another_stores_rows_is_not_shown(tmp_path):
    bucket = Bucket.make(tmp_path)
    entry = bucket.publish([StoreSpec("1", items=("a",)), StoreSpec("2", items=("b",))])
    release = releases.load(bucket.storage, entry.release, entry.sha256)
    rows = release.stores.to_pylist()
    rows[0]["parts"], rows[1]["parts"] = rows[1]["parts"], rows[0]["parts"]
    swapped = releases.encode(
        releases.Release(
            release.header.model_copy(update={"release": "swapped"}),
            pa.Table.from_pylist(rows, schema=releases.RELEASE_SCHEMA),
        )
    )
    bucket.storage.create(keys.release("swapped"), swapped)
    bucket.point(entry.model_copy(update={"release": "swapped", "sha256": parts.sha256(swapped)}))
    with serve(str(tmp_path)) as served:
        answer = served.get("/v1/stores/1/forecast")
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/corrupt")


def test_a_time_zone_that_does_not_exist_is_refused(tmp_path):
    bucket = Bucket.make(tmp_path)
    bucket.publish([StoreSpec("1")])
    with serve(str(tmp_path)) as served:
        bucket.change(time_zone="Mars/Olympus")
        served.refresh()
        assert served.get("/readyz").json()["release_refused"] is True
        assert served.get("/v1/stores/1/forecast").status_code == 200
        bucket.storage.replace(
            keys.POINTER, b"{", bucket.storage.read_versioned(keys.POINTER).generation
        )
        served.refresh()
        assert served.get("/v1/stores/1/forecast").status_code == 200


def test_nothing_that_can_be_verified(tmp_path):
    bucket = Bucket.make(tmp_path)
    bucket.publish([StoreSpec("1")], name="a")
    bucket.publish([StoreSpec("1")], name="b")
    for name in "ab":
        (tmp_path / keys.release(name)).write_bytes(b"PAR1")
    with serve(str(tmp_path)) as served:
        assert served.get("/readyz").status_code == 503
        answer = served.get("/v1/stores/1/forecast")
        assert "cannot be verified" in answer.json()["detail"]
        page = served.get("/")
        assert page.status_code == 503
        assert "cannot be verified" in page.text
