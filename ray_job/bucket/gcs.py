"""A bucket in Google Cloud Storage.

google-cloud-storage for what needs generations or checksums, Arrow's streams for plain reads (one
request, a seventh of the CPU). Every write that must not be blind carries `if_generation_match`;
since a first try may have landed although its answer was lost, a failed precondition is read back
and compared. `STORAGE_EMULATOR_HOST` leads all three clients to another server, without sign-in.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from google.api_core import exceptions as google_errors
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage as google_storage
from google.cloud.storage.exceptions import DataCorruption
from google.cloud.storage.retry import DEFAULT_RETRY
from pyarrow import ArrowException
from pyarrow.fs import FileSystem, GcsFileSystem, SubTreeFileSystem
from requests.adapters import HTTPAdapter
from requests.exceptions import RequestException

from ray_job.bucket.checksums import crc32c_from_base64, crc32c_of_file
from ray_job.bucket.errors import (
    BucketMissingError,
    ConflictError,
    CorruptError,
    NotFoundError,
    StorageError,
)
from ray_job.bucket.interface import ObjectInfo, Versioned

_PATIENCE = 120.0
_CONNECTIONS = 32
_RETRY = DEFAULT_RETRY.with_timeout(_PATIENCE)
_TRIES = 3
_ARROWS_DAMAGE = "DATA_LOSS"
"""What Arrow's error says of a body whose checksum is another one than the storage's."""


@contextmanager
def _told(key: str) -> Iterator[None]:
    """Tell a client's error as one of ours."""
    try:
        yield
    except (google_errors.NotFound, FileNotFoundError) as error:
        raise NotFoundError(f"{key}: there is no such object") from error
    except (google_errors.PreconditionFailed, google_errors.NotModified):
        raise
    except DataCorruption as error:
        raise CorruptError(f"{key}: the bytes received do not match the checksum") from error
    except google_errors.GoogleAPIError as error:
        raise StorageError(f"{key}: {_first_line(error)}") from error
    except (GoogleAuthError, RequestException, OSError, ArrowException) as error:
        raise StorageError(f"{key}: {_first_line(error)}") from error


def _undamaged(read: Callable[[], bytes]) -> bytes:
    """Ask again for bytes that did not match their checksum; the clients themselves do not."""
    for _ in range(_TRIES - 1):
        try:
            return read()
        except DataCorruption:
            continue
        except OSError as error:
            if _ARROWS_DAMAGE not in str(error):
                raise
    return read()


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


@dataclass(frozen=True, slots=True)
class GcsStorage:
    name: str
    prefix: str
    bucket: Any
    arrow: FileSystem

    @classmethod
    def open(cls, url: str) -> GcsStorage:
        name, _, prefix = url.removeprefix("gs://").partition("/")
        prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        with _told(url):
            bucket = _client().bucket(name)
            exists = bucket.exists(retry=_RETRY)
        if not exists:
            raise BucketMissingError(f"gs://{name}: there is no such bucket")
        return cls(name, prefix, bucket, SubTreeFileSystem(f"{name}/{prefix}", _arrow()))

    @property
    def url(self) -> str:
        return f"gs://{self.name}/{self.prefix}".rstrip("/")

    def read(self, key: str) -> bytes:
        def stream() -> bytes:
            with self.arrow.open_input_stream(key, buffer_size=0) as opened:
                data: bytes = opened.read()
                return data

        with _told(key):
            return _undamaged(stream)

    def read_range(self, key: str, begin: int, end: int) -> bytes:
        with _told(key):
            data: bytes = self._blob(key).download_as_bytes(
                start=begin, end=end - 1, retry=_RETRY, checksum=None
            )
            return data

    def read_versioned(self, key: str) -> Versioned:
        found = self._fetch(key)
        if found is None:
            raise NotFoundError(f"{key}: there is no such object")
        return found

    def read_if_changed(self, key: str, generation: str) -> Versioned | None:
        return self._fetch(key, if_generation_not_match=int(generation))

    def stat(self, key: str) -> ObjectInfo | None:
        with _told(key):
            blob = self.bucket.get_blob(self.prefix + key, retry=_RETRY)
        return None if blob is None else self._info(blob)

    def checksum(self, info: ObjectInfo) -> str:
        with _told(info.key):
            blob = self._blob(info.key)
            blob.reload(retry=_RETRY)
        return crc32c_from_base64(blob.crc32c)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        fields = "items(name,size,generation,timeCreated),nextPageToken"
        with _told(prefix):
            for blob in self.bucket.client.list_blobs(
                self.bucket, prefix=self.prefix + prefix, fields=fields, retry=_RETRY
            ):
                yield self._info(blob)

    def create(self, key: str, data: bytes) -> None:
        blob = self._blob(key)
        with _told(key):
            try:
                blob.upload_from_string(
                    data, if_generation_match=0, retry=_RETRY, checksum="crc32c"
                )
            except google_errors.PreconditionFailed:
                if self.read_versioned(key).data != data:
                    raise ConflictError(f"{key}: the object is there already") from None

    def replace(self, key: str, data: bytes, generation: str | None) -> str:
        blob = self._blob(key)
        with _told(key):
            try:
                blob.upload_from_string(
                    data,
                    if_generation_match=0 if generation is None else int(generation),
                    retry=_RETRY,
                    checksum="crc32c",
                )
            except google_errors.PreconditionFailed:
                return self._ours(key, data)
        return str(blob.generation)

    def write_unseen(self, key: str, data: bytes) -> None:
        with _told(key):
            self._blob(key).upload_from_string(data, retry=_RETRY, checksum="crc32c")

    def sync(self) -> None:
        """An acknowledged object is durable."""

    def delete(self, key: str, generation: str) -> None:
        with _told(key):
            try:
                self._blob(key).delete(if_generation_match=int(generation), retry=_RETRY)
            except google_errors.NotFound:
                return
            except google_errors.PreconditionFailed:
                raise ConflictError(f"{key}: the object was changed by somebody else") from None

    def upload(self, path: Path, key: str) -> None:
        blob = self._blob(key)
        with _told(key):
            try:
                blob.upload_from_filename(
                    str(path), if_generation_match=0, retry=_RETRY, checksum="crc32c"
                )
            except google_errors.PreconditionFailed:
                there = self.stat(key)
                if there is None or self.checksum(there) != crc32c_of_file(path):
                    raise ConflictError(f"{key}: the object is there already") from None

    def download(self, key: str, path: Path) -> None:
        with _told(key), path.open("xb") as file:
            self._blob(key).download_to_file(file, retry=_RETRY, checksum="crc32c")

    def files(self) -> FileSystem:
        return self.arrow

    def delta(self, root: str) -> tuple[str, dict[str, str]]:
        return f"gs://{self.name}/{self.prefix}{root}", _delta_options()

    def _blob(self, key: str) -> Any:
        return self.bucket.blob(self.prefix + key)

    def _fetch(self, key: str, **condition: int) -> Versioned | None:
        blob = self._blob(key)
        with _told(key):
            try:
                data = _undamaged(
                    partial(blob.download_as_bytes, retry=_RETRY, checksum="crc32c", **condition)
                )
            except google_errors.NotModified:
                return None
        return Versioned(data, str(blob.generation))

    def _ours(self, key: str, data: bytes) -> str:
        try:
            there = self.read_versioned(key)
        except NotFoundError:
            there = None
        if there is None or there.data != data:
            raise ConflictError(f"{key}: the object was changed by somebody else") from None
        return there.generation

    def _info(self, blob: Any) -> ObjectInfo:
        key = blob.name.removeprefix(self.prefix)
        return ObjectInfo(key, int(blob.size), str(blob.generation), blob.time_created)


def _emulator() -> str | None:
    host = os.environ.get("STORAGE_EMULATOR_HOST")
    return host if host is None or "://" in host else f"http://{host}"


def _client() -> Any:
    """Google's client, with as many connections as there are threads that use it."""
    if _emulator() is not None:
        client = google_storage.Client.create_anonymous_client()
    else:
        client = google_storage.Client()
    for scheme in ("http://", "https://"):
        client._http.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))  # noqa: SLF001 - no other way
    return client


def _arrow() -> FileSystem:
    patience = timedelta(seconds=_PATIENCE)
    emulator = _emulator()
    if emulator is None:
        return GcsFileSystem(retry_time_limit=patience)
    scheme, _, host = emulator.partition("://")
    return GcsFileSystem(
        anonymous=True,
        scheme=scheme,
        endpoint_override=host.rstrip("/"),
        retry_time_limit=patience,
    )


def _delta_options() -> dict[str, str]:
    emulator = _emulator()
    if emulator is None:
        return {}
    key = {
        "gcs_base_url": emulator.rstrip("/"),
        "disable_oauth": True,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    }
    return {"google_service_account_key": json.dumps(key), "allow_http": "true"}
