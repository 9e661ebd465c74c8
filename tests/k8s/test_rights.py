"""The rights that setup grants in the bucket are enough for what each account does there.

Each account does its job on the fake storage. The storage's log has every request, and each request
is compared with the roles and prefixes of k8s/gcp/lib.sh.
"""

import io
import subprocess
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from pyarrow import parquet

from ray_job import ingest
from ray_job.bucket import keys, receipts
from ray_job.operations import clean_up
from tests.api.fixtures.serving import Clock, serve
from tests.conftest import BUCKET
from tests.k8s.support.manifests import K8S
from tests.support import shop

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
    output = subprocess.run(
        ["bash", "-c", f". {K8S / 'gcp' / 'lib.sh'}; grants"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    prefixes_of = {}
    for line in output.splitlines():
        service_account, role, *prefixes = line.split()
        for operation in MAY[role]:
            prefixes_of.setdefault((service_account, operation), set()).update(prefixes)
        for operation in MAY["legacyBucketReader"]:
            prefixes_of[service_account, operation] = {""}
    return prefixes_of


@pytest.fixture
def requests_of(gcs, gcs_shop):
    """The requests that a function makes, as (operation, key); overwriting is its own operation."""

    def record(function):
        existing = {info.key for info in gcs_shop.storage.list("")}
        gcs.log.clear()
        function()
        requests = []
        for entry in gcs.log.entries:
            operation = entry.op
            if operation == "insert" and entry.status < 300:
                operation = "overwrite" if entry.key in existing else "insert"
                existing.add(entry.key)
            requests.append((operation, entry.key))
        assert requests
        return requests

    return record


def refused(granted, service_account, requests):
    return sorted(
        {
            (operation, key)
            for operation, key in requests
            if operation != "batch"
            and not any(
                key.startswith(prefix) for prefix in granted.get((service_account, operation), ())
            )
        }
    )


def late_file(gcs):
    """Uploaded by somebody else; the job only reads it."""
    rows = pa.table({"store_id": ["s002"], "date": [shop.LAST], "sales": [123.0]})
    body = io.BytesIO()
    parquet.write_table(rows, body)
    gcs.put(BUCKET, keys.raw("sales", "late.parquet"), body.getvalue())


def test_the_job_ingests_runs_and_publishes(granted, requests_of, gcs, gcs_shop):
    def nights():
        gcs_shop.run()
        gcs_shop.run()  # finds all done
        late_file(gcs)
        now = shop.midnight(shop.LAST) + timedelta(hours=1)
        ingest.ingest(gcs_shop.storage, gcs_shop.settings, now=now)
        gcs_shop.run("current", now=now)
        gcs_shop.run(shop.LAST + shop.DAY)

    requests = requests_of(nights)
    assert refused(granted, "storecast-job", requests) == []
    assert ("overwrite", keys.POINTER) in requests
    assert any(
        key.startswith(keys.BATCH_DATA) for operation, key in requests if operation == "insert"
    )


def test_an_engineer_s_run_on_the_ad_hoc_cluster(granted, requests_of, gcs_shop):
    requests = requests_of(lambda: gcs_shop.run(stores=["s002", "s003"], publish=False))
    assert refused(granted, "storecast-adhoc", requests) == []
    published = requests_of(lambda: gcs_shop.run(stores=["s002"]))
    kept_out = {key for _, key in refused(granted, "storecast-adhoc", published)}
    assert keys.POINTER in kept_out, "who may not publish cannot"


def test_the_trainer_registers_and_promotes(granted, requests_of, gcs_shop):
    requests = requests_of(lambda: shop.train(gcs_shop.storage, "second"))
    assert refused(granted, "storecast-trainer", requests) == []
    assert ("overwrite", keys.CURRENT_MODEL) in requests


def test_the_cleaner_deletes_what_no_release_reaches(granted, requests_of, gcs_shop):
    gcs_shop.run(publish=False)
    later = datetime.now(UTC) + timedelta(days=40)  # the storage dates its objects itself
    requests = requests_of(lambda: clean_up.clean_up(gcs_shop.storage, later))
    assert refused(granted, "storecast-cleaner", requests) == []
    assert any(operation == "delete" for operation, _ in requests)


def test_the_submitter_reads_receipts(granted, requests_of, gcs_shop):
    gcs_shop.run()
    requests = requests_of(lambda: receipts.of_night(gcs_shop.storage, shop.LAST))
    assert refused(granted, "storecast-submitter", requests) == []


def test_the_api_reads_results_and_grants(granted, requests_of, gcs_shop):
    gcs_shop.run()
    clock = Clock(shop.midnight(shop.LAST) + timedelta(hours=9))

    def answer():
        with serve(f"gs://{BUCKET}", clock=clock) as served:
            served.refresh()
            for path in ("/v1/stores/s002/forecast", "/v1/stores/s002/history", "/"):
                assert served.get(path).status_code == 200, path

    requests = requests_of(answer)
    assert refused(granted, "storecast-api", requests) == []
    assert any(key == keys.GRANTS for _, key in requests)


def test_a_right_that_is_missing_is_found(granted, requests_of, gcs_shop):
    requests = requests_of(gcs_shop.run)
    assert refused(granted, "storecast-job", requests) == []
    assert {operation for operation, _ in refused(granted, "storecast-submitter", requests)} >= {
        "get",
        "insert",
    }
