"""The service while the storage fails, and a process that starts meanwhile."""

from __future__ import annotations

import threading
from datetime import timedelta

import httpx
import pytest

from ray_job.bucket import keys
from ray_job.bucket.storage import open_bucket
from tests.api.fixtures.bucket import AS_OF, NOON, STORES, Bucket, StoreSpec
from tests.api.fixtures.records import DAY, score_row, write_scores
from tests.api.fixtures.serving import Clock, RunningApi, serve, wait_until
from tests.api.fixtures.tokens import bearer, key_set, serve_keys, token, write_grants
from tests.conftest import BUCKET
from tests.fake_gcs import FakeGcs, Fault

URL = f"gs://{BUCKET}"
UNREAD = "The past days cannot be read at the moment."


@pytest.fixture
def scored_bucket(gcs: FakeGcs) -> Bucket:
    assert gcs
    bucket = Bucket(open_bucket(URL))
    bucket.publish(STORES)
    scores = {
        day: write_scores(bucket, day, [score_row("1", day, 1, 95.0, 100.0)])
        for day in (AS_OF - back * DAY for back in range(12))
    }
    bucket.change(accuracy=scores)
    return bucket


@pytest.mark.usefixtures("scored_bucket")
def test_the_forecast_comes_without_a_history_that_cannot_be_read(gcs: FakeGcs):
    with serve(URL) as api:
        gcs.faults.add(Fault("status", key="results/accuracy/*", status=403, times=None))
        page = api.get("/?store_id=1")
        assert page.status_code == 200
        assert UNREAD in page.text
        assert "102" in page.text, "the forecast of Tuesday"
        assert api.get("/v1/stores/1/forecast").status_code == 200
        history = api.get("/v1/stores/1/history")
        assert (history.status_code, history.json()["type"]) == (503, "/problems/storage")
        gcs.faults.clear()
        api.service.storage_pool.breaker.succeeded()  # as if its pause had passed
        wait_until(lambda: api.get("/v1/stores/1/history").status_code == 200, 60)
        page = api.get("/?store_id=1")
        assert UNREAD not in page.text
        assert "the sales of 12 open days are known" in page.text


@pytest.mark.usefixtures("scored_bucket")
def test_what_is_in_memory_does_not_wait_for_reads_that_hang(gcs: FakeGcs):
    with serve(URL) as api:
        gcs.faults.add(Fault("stall", key="results/accuracy/*", seconds=8, times=None))
        statuses = []

        def read_history(number: int) -> None:
            url = f"{api.url}/v1/stores/1/history?days={number}"
            statuses.append(httpx.get(url, timeout=60).status_code)

        threads = [threading.Thread(target=read_history, args=(days,)) for days in range(1, 41)]
        for thread in threads:
            thread.start()
        for number in range(100):
            assert api.get(f"/v1/stores?page_size={number + 1}").status_code == 200
        assert api.get("/v1/stores/2/forecast").status_code == 200
        assert not statuses, "the histories were read before the others were answered"
        for thread in threads:
            thread.join()
        assert set(statuses) == {503}
        gcs.faults.clear()


def fail_all(gcs: FakeGcs) -> None:
    """Every request is refused in a way that the clients do not repeat."""
    gcs.faults.add(Fault("status", status=403, times=None))


def test_a_process_that_starts_without_storage_goes_on_trying(gcs: FakeGcs):
    Bucket(open_bucket(URL)).publish([StoreSpec("1")])
    fail_all(gcs)
    with serve(URL) as api:
        assert api.get("/livez").status_code == 200
        assert api.get("/startupz").status_code == 200
        assert api.get("/readyz").status_code == 503
        assert api.get("/v1/stores/1/forecast").status_code == 503
        gcs.faults.clear()
        api.refresh()
        assert api.get("/readyz").status_code == 200
        assert api.get("/v1/stores/1/forecast").json()["unread_since"] is None


def test_a_process_that_starts_without_storage_serves_what_was_verified(gcs: FakeGcs, tmp_path):
    bucket = Bucket(open_bucket(URL))
    bucket.publish(STORES, parts_per_run=2)
    write_grants(bucket.storage, {"subject": "anna", "stores": ["2"]})
    headers = bearer(token())
    with serve_keys(key_set("k1")) as key_server:
        issuers = (key_server.issuer(),)
        url = "/v1/stores/2/forecast"
        with serve(URL, cache_dir=tmp_path, issuers=issuers) as api:
            before = api.get(url, headers=headers).json()
        fail_all(gcs)
        with serve(URL, cache_dir=tmp_path, issuers=issuers) as api:
            assert api.get("/readyz").status_code == 200
            meanwhile = api.get(url, headers=headers).json()
            assert meanwhile["unread_since"] == "2026-11-23T11:00:00Z"
            assert {**meanwhile, "unread_since": None} == before
            assert api.get("/v1/stores/1/forecast", headers=headers).status_code == 403
            gcs.faults.clear()
            bucket.publish([StoreSpec("2", base=900)], name="b")
            api.refresh()
            after = api.get(url, headers=headers).json()
            assert (after["release"], after["unread_since"]) == ("b", None)


@pytest.mark.parametrize("suffix", ["object", "release", "arrow"])
def test_a_damaged_copy_is_not_served(gcs: FakeGcs, tmp_path, suffix):
    Bucket(open_bucket(URL)).publish([StoreSpec("1")])
    with serve(URL, cache_dir=tmp_path):
        pass
    (path,) = tmp_path.glob(f"*.{suffix}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    fail_all(gcs)
    with serve(URL, cache_dir=tmp_path) as api:
        assert api.get("/readyz").status_code == 503
        assert api.get("/v1/stores/1/forecast").status_code == 503
        gcs.faults.clear()
        api.refresh()
        assert api.get("/v1/stores/1/forecast").status_code == 200


def test_copies_are_those_of_one_bucket(gcs: FakeGcs, tmp_path):
    Bucket(open_bucket(URL)).publish([StoreSpec("1")])
    with serve(URL, cache_dir=tmp_path):
        pass
    fail_all(gcs)
    with serve(f"{URL}/other", cache_dir=tmp_path) as api:
        assert api.get("/readyz").status_code == 503


class TestGrants:
    """The grants, beside a pointer that is good, damaged or away."""

    @pytest.fixture
    def folder(self, tmp_path):
        bucket = Bucket.make(tmp_path / "bucket")
        bucket.publish([StoreSpec("1"), StoreSpec("2")])
        write_grants(bucket.storage, {"subject": "anna", "stores": ["1"]})
        return tmp_path

    @pytest.fixture
    def key_server(self):
        with serve_keys(key_set("k1")) as server:
            yield server

    def status(self, api: RunningApi, store: str) -> int:
        headers = bearer(token(now=api.clock.now))
        return api.get(f"/v1/stores/{store}/forecast", headers=headers).status_code

    @pytest.mark.parametrize("damage", ["{}", "[", None])
    def test_they_are_applied_whatever_the_pointer_is(self, folder, key_server, damage):
        with serve(str(folder / "bucket"), issuers=(key_server.issuer(),)) as api:
            pointer = folder / "bucket" / keys.POINTER
            if damage is None:
                pointer.unlink()
            else:
                pointer.write_text(damage)
            write_grants(Bucket.make(folder / "bucket").storage, {"subject": "anna", "stores": "*"})
            api.refresh()
            assert self.status(api, "2") == 200
            if damage is not None:
                (folder / "bucket" / keys.GRANTS).unlink()
                api.refresh()
                assert self.status(api, "1") == 403

    @pytest.mark.parametrize("is_restarted", [False, True])
    def test_damaged_grants_leave_the_last_ones_in_force_for_a_while(
        self, folder, key_server, is_restarted
    ):
        settings = {
            "cache_dir": folder / "cache",
            "issuers": (key_server.issuer(),),
            "grants_seconds": 3600.0,
        }
        path = folder / "bucket" / keys.GRANTS
        good = path.read_bytes()
        clock = Clock()
        with serve(str(folder / "bucket"), clock=clock, **settings) as api:
            if not is_restarted:
                self.check_damaged(api, path)
                path.write_bytes(good)
                api.refresh()
                assert self.status(api, "1") == 200
                assert api.metrics()["grants_refused",] == 0
                return
        path.write_bytes(b"[")
        clock = Clock(NOON + timedelta(minutes=10))
        with serve(str(folder / "bucket"), clock=clock, **settings) as api:
            self.check_damaged(api, path)

    def check_damaged(self, api: RunningApi, path) -> None:
        path.write_bytes(b'{"grants": [{"issuer": "x"')
        api.refresh()
        assert self.status(api, "1") == 200
        body = api.get("/readyz").json()
        assert body["grants_refused"] is True
        assert body["grants_verified_at"] is not None
        assert api.metrics()["grants_refused",] == 1
        api.clock.now = NOON + timedelta(minutes=59)
        api.refresh()
        assert self.status(api, "1") == 200
        api.clock.now = NOON + timedelta(minutes=75)
        api.refresh()
        assert self.status(api, "1") == 403

    def test_deleted_grants_deny_everybody_in_a_restarted_process(self, folder, key_server):
        settings = {"cache_dir": folder / "cache", "issuers": (key_server.issuer(),)}
        with serve(str(folder / "bucket"), **settings) as api:
            assert self.status(api, "1") == 200
        (folder / "bucket" / keys.GRANTS).unlink()
        with serve(str(folder / "bucket"), **settings) as api:
            assert self.status(api, "1") == 403
