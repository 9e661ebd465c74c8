"""The three real clients, pointed at the fake."""

from __future__ import annotations

import json

import pyarrow.fs
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.oauth2.credentials import Credentials


def storage_client(url: str, token: str | None = None) -> storage.Client:
    """google-cloud-storage; close it, or use it in a `with`."""
    credentials = (
        Credentials(token=token)  # type: ignore[no-untyped-call]
        if token
        else AnonymousCredentials()
    )
    return storage.Client(
        project="test", credentials=credentials, client_options={"api_endpoint": url}
    )


def arrow_filesystem(url: str) -> pyarrow.fs.GcsFileSystem:
    """pyarrow; paths are "bucket/key"."""
    return pyarrow.fs.GcsFileSystem(
        anonymous=True, scheme="http", endpoint_override=url.removeprefix("http://")
    )


def delta_options(url: str) -> dict[str, str]:
    """delta-rs' storage_options; tables are "gs://bucket/prefix"."""
    key = {
        "gcs_base_url": url,
        "disable_oauth": True,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    }
    return {"google_service_account_key": json.dumps(key), "allow_http": "true"}
