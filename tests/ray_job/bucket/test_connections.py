"""A storage that cannot be reached is named at once, and not only after the last try."""

import logging
import socket

import pytest

from ray_job.bucket.errors import StorageError
from ray_job.bucket.storage import connections, gcs, open_bucket


@pytest.fixture
def closed_port(monkeypatch):
    """An address at which nothing listens, as that of the storage; requests are tried for 1 s."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{address}")
        quick = gcs.DEFAULT_RETRY.with_delay(initial=0.05, maximum=0.1).with_timeout(1)
        monkeypatch.setattr(gcs, "_RETRY", quick)
        yield address


def test_refused_connections_are_reported_once_in_ten_seconds(closed_port, caplog, monkeypatch):
    with caplog.at_level(logging.WARNING), pytest.raises(StorageError, match="Connection refused"):
        open_bucket("gs://shop")
    [line] = [record.getMessage() for record in caplog.records]
    assert line == (
        f"Cloud Storage at {closed_port} cannot be reached: Connection refused;"
        " each request is tried for 40 s"
    )
    monkeypatch.setattr(connections, "_SILENCE_SECONDS", 0.0)
    caplog.clear()
    with caplog.at_level(logging.WARNING), pytest.raises(StorageError):
        open_bucket("gs://shop")
    assert len(caplog.records) > 1


def test_the_error_is_one_sentence(closed_port):
    with pytest.raises(StorageError) as caught:
        open_bucket("gs://shop")
    assert str(caught.value) == (
        "gs://shop: the storage did not answer in time: Connection refused"
    )
