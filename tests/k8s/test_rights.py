"""The rights that setup grants in the bucket are enough for what each account does there.

Each does its work on the fake storage, whose log tells every request, and each request is held
against the roles and prefixes of k8s/gcp/lib.sh.
"""

import io
import subprocess
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from pyarrow import parquet

from ray_job import clean_up, ingest
from ray_job.bucket import keys, receipts
from tests import shop
from tests.api.fixtures.serving import Clock, serve
from tests.conftest import BUCKET
from tests.k8s.manifests import K8S

READS = {"get", "stat", "media"}
CREATES = {"insert", "start", "part"}
"""Overwriting is creating and deleting at once, so it takes the right to delete as well."""
MAY = {
    "legacyBucketReader": {"list", "bucket"},
    "objectViewer": READS,
    "objectCreator": CREATES,
    "objectUser": {*READS, *CREATES, "overwrite", "delete"},
}


@pytest.fixture(scope="module")
def granted():
    """(account, operation) → prefixes, as the two scripts read them."""
    told = subprocess.run(
        ["bash", "-c", f". {K8S / 'gcp' / 'lib.sh'}; grants"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = {}
    for line in told.splitlines():
        account, role, *prefixes = line.split()
        for operation in MAY[role]:
            found.setdefault((account, operation), set()).update(prefixes)
        for operation in MAY["legacyBucketReader"]:
            found[account, operation] = {""}
    return found


@pytest.fixture
def used(gcs, gcs_shop):
    """What `work` asks of the bucket, as (operation, key); overwriting has a name of its own."""

    def look(work):
        there = {info.key for info in gcs_shop.storage.list("")}
        gcs.log.clear()
        work()
        asked = []
        for entry in gcs.log.entries:
            operation = entry.op
            if operation == "insert" and entry.status < 300:
                operation = "overwrite" if entry.key in there else "insert"
                there.add(entry.key)
            asked.append((operation, entry.key))
        assert asked
        return asked

    return look


def refused(granted, account, asked):
    return sorted(
        {
            (operation, key)
            for operation, key in asked
            if operation != "batch"
            and not any(key.startswith(one) for one in granted.get((account, operation), ()))
        }
    )


def late_file(gcs):
    """Uploaded by somebody else; the job only reads it."""
    rows = pa.table({"store_id": ["s002"], "date": [shop.LAST], "sales": [123.0]})
    body = io.BytesIO()
    parquet.write_table(rows, body)
    gcs.put(BUCKET, keys.raw("sales", "late.parquet"), body.getvalue())


def test_the_job_ingests_runs_and_publishes(granted, used, gcs, gcs_shop):
    def nights():
        gcs_shop.run()
        gcs_shop.run()  # finds all done
        late_file(gcs)
        now = shop.midnight(shop.LAST) + timedelta(hours=1)
        ingest.ingest(gcs_shop.storage, gcs_shop.settings, now=now)
        gcs_shop.run("current", now=now)
        gcs_shop.run(shop.LAST + shop.DAY)

    asked = used(nights)
    assert refused(granted, "storecast-job", asked) == []
    assert ("overwrite", keys.POINTER) in asked
    assert any(key.startswith(keys.BATCH_DATA) for what, key in asked if what == "insert")


def test_an_engineer_s_run_on_the_ad_hoc_cluster(granted, used, gcs_shop):
    asked = used(lambda: gcs_shop.run(stores=["s002", "s003"], publish=False))
    assert refused(granted, "storecast-adhoc", asked) == []
    published = used(lambda: gcs_shop.run(stores=["s002"]))
    kept_out = {key for _, key in refused(granted, "storecast-adhoc", published)}
    assert keys.POINTER in kept_out, "who may not publish cannot"


def test_the_trainer_registers_and_promotes(granted, used, gcs_shop):
    asked = used(lambda: shop.train(gcs_shop.storage, "second"))
    assert refused(granted, "storecast-trainer", asked) == []
    assert ("overwrite", keys.CURRENT_MODEL) in asked


def test_the_cleaner_deletes_what_no_release_reaches(granted, used, gcs_shop):
    gcs_shop.run(publish=False)
    later = datetime.now(UTC) + timedelta(days=40)  # the storage dates its objects itself
    asked = used(lambda: clean_up.clean_up(gcs_shop.storage, later))
    assert refused(granted, "storecast-cleaner", asked) == []
    assert any(what == "delete" for what, _ in asked)


def test_the_submitter_reads_receipts(granted, used, gcs_shop):
    gcs_shop.run()
    asked = used(lambda: receipts.of_night(gcs_shop.storage, shop.LAST))
    assert refused(granted, "storecast-submitter", asked) == []


def test_the_api_reads_results_and_grants(granted, used, gcs_shop):
    gcs_shop.run()
    clock = Clock(shop.midnight(shop.LAST) + timedelta(hours=9))

    def answer():
        with serve(f"gs://{BUCKET}", clock=clock) as served:
            served.refresh()
            for path in ("/v1/stores/s002/forecast", "/v1/stores/s002/history", "/"):
                assert served.get(path).status_code == 200, path

    asked = used(answer)
    assert refused(granted, "storecast-api", asked) == []
    assert any(key == keys.GRANTS for _, key in asked)


def test_a_right_that_is_missing_is_found(granted, used, gcs_shop):
    asked = used(gcs_shop.run)
    assert refused(granted, "storecast-job", asked) == []
    assert {what for what, _ in refused(granted, "storecast-submitter", asked)} >= {"get", "insert"}
