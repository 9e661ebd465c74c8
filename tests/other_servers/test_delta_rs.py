"""delta-rs on servers that we did not write."""

import deltalake
import pyarrow as pa
import pytest

from tests.fake_gcs.clients import delta_options

CANNOT = {
    "fake-gcs-server": "it has no XML writes",
    "storage-testbench": "it has no XML listing",
}


def test_two_commits_are_read_back(request, server, bucket_name):
    name, url = server
    if name in CANNOT:
        request.applymarker(pytest.mark.xfail(reason=CANNOT[name], strict=True))
    table, options = f"gs://{bucket_name}/table", delta_options(url)
    options["max_retries"] = "0"
    for number in range(2):
        rows = pa.table({"n": pa.array([number], pa.int64())})
        deltalake.write_deltalake(table, rows, mode="append", storage_options=options)
    opened = deltalake.DeltaTable(table, storage_options=options)
    assert sorted(opened.to_pyarrow_table()["n"].to_pylist()) == [0, 1]
