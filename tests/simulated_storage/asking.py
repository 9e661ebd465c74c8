"""What the tests of the fake storage share."""

from __future__ import annotations

import http.client
from contextlib import closing

import deltalake
import pyarrow as pa
import pytest
from google.api_core.retry import Retry
from google.cloud.storage.retry import DEFAULT_RETRY

from tests.fake_gcs.clients import delta_options

QUICK: Retry = DEFAULT_RETRY.with_delay(initial=0.01, maximum=0.05).with_timeout(10)
BODY = bytes(range(256)) * 40


def drops_sockets(test):
    quiet = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
    return pytest.mark.usefixtures("drops_answers")(quiet(test))


def request(gcs, path, method="GET", body=None, **headers):
    """One request without a client's retries: status, headers, body."""
    with closing(http.client.HTTPConnection("127.0.0.1", gcs.port, timeout=5)) as connection:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def append(gcs, numbers):
    deltalake.write_deltalake(
        "gs://b/table",
        pa.table({"n": pa.array(numbers, pa.int64())}),
        mode="append",
        storage_options=delta_options(gcs.url),
    )


def rows(gcs):
    table = deltalake.DeltaTable("gs://b/table", storage_options=delta_options(gcs.url))
    return sorted(table.to_pyarrow_table()["n"].to_pylist())
