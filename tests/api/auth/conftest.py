"""The service with sign-in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ray_job.bucket import receipts
from tests.api.fixtures.bucket import Bucket
from tests.api.fixtures.records import receipt
from tests.api.fixtures.serving import serve
from tests.api.fixtures.sign_in import GRANTS, STORES, SignedApi
from tests.api.fixtures.tokens import key_set, serve_keys, write_grants


@pytest.fixture
def signed(tmp_path) -> Iterator[SignedApi]:
    bucket = Bucket.make(tmp_path)
    bucket.publish(STORES)
    receipts.write(bucket.storage, receipt("run-2026-11-22-a"))
    write_grants(bucket.storage, *GRANTS)
    with (
        serve_keys(key_set("k1", ec_names=("p1",))) as key_server,
        serve(
            str(tmp_path),
            issuers=(key_server.issuer(authorized_parties=("batch-client",)), key_server.proxy()),
        ) as api,
    ):
        yield SignedApi(api, key_server, bucket)
