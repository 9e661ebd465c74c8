"""The clients of Cloud Storage: Google's, Arrow's, and the options of delta-rs for its own.

The environment variable `STORAGE_EMULATOR_HOST` leads all of them to another server, without
sign-in.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from typing import Any

from google.cloud import storage as google_storage
from pyarrow.fs import FileSystem, GcsFileSystem

from ray_job.bucket.storage.connections import ReportingConnections
from ray_job.bucket.storage.patience import CALL_SECONDS

_CONNECTIONS = 32
_DELTA_SECONDS = {"timeout": 20.0, "connect_timeout": 5.0, "retry_timeout": CALL_SECONDS}
"""So long delta-rs waits at most: for a request, to connect, and with all repetitions."""


def _emulator() -> str | None:
    """The address of the server to use instead of Google's, None for Google's."""
    host = os.environ.get("STORAGE_EMULATOR_HOST")
    return host if host is None or "://" in host else f"http://{host}"


def google_client() -> Any:
    """Google's client, with a connection for each thread that uses it."""
    # The client would send a request for the bucket's metadata from a thread of its own.
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    if _emulator() is not None:
        client = google_storage.Client.create_anonymous_client()
    else:
        client = google_storage.Client()
    for scheme in ("http://", "https://"):
        connections = ReportingConnections(pool_maxsize=_CONNECTIONS, retry_seconds=CALL_SECONDS)
        client._http.mount(scheme, connections)  # noqa: SLF001 - no other way
    return client


def arrow_file_system() -> FileSystem:
    retry_time = timedelta(seconds=CALL_SECONDS)
    emulator = _emulator()
    if emulator is None:
        return GcsFileSystem(retry_time_limit=retry_time)
    scheme, _, host = emulator.partition("://")
    return GcsFileSystem(
        anonymous=True,
        scheme=scheme,
        endpoint_override=host.rstrip("/"),
        retry_time_limit=retry_time,
    )


def delta_options(seconds: float) -> dict[str, str]:
    """The options of delta-rs, of which a request waits for at most so many seconds."""
    bounds = {
        name: f"{max(1000, int(1000 * min(most, seconds)))}ms"
        for name, most in _DELTA_SECONDS.items()
    }
    emulator = _emulator()
    if emulator is None:
        return bounds
    key = {
        "gcs_base_url": emulator.rstrip("/"),
        "disable_oauth": True,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    }
    return {
        "google_service_account_key": json.dumps(key),
        "allow_http": "true",
        **bounds,
    }
