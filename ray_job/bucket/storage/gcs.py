"""A bucket in Google Cloud Storage.

Requests that need generations or checksums go through google-cloud-storage. Plain reads go through
Arrow's streams: one request, a seventh of the CPU. Every conditional write carries
`if_generation_match`. The client repeats a write whose answer was lost, and the first try may have
succeeded: after a failed precondition the object is therefore read back and compared. The
environment variable `STORAGE_EMULATOR_HOST` leads all clients to another server, without sign-in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from google.api_core import exceptions as google_errors
from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError
from google.cloud.storage.exceptions import DataCorruption
from google.cloud.storage.retry import DEFAULT_RETRY
from pyarrow import ArrowException
from pyarrow.fs import FileSystem, SubTreeFileSystem
from requests.exceptions import ChunkedEncodingError, RequestException

from ray_job.bucket import keys
from ray_job.bucket.errors import (
    BucketMissingError,
    ConflictError,
    CorruptError,
    NotFoundError,
    StorageError,
)
from ray_job.bucket.storage.checksums import (
    crc32c_from_base64,
    crc32c_of_bytes,
    crc32c_of_file,
)
from ray_job.bucket.storage.clients import arrow_file_system, delta_options, google_client
from ray_job.bucket.storage.connections import innermost_reason
from ray_job.bucket.storage.interface import ObjectInfo, Versioned
from ray_job.bucket.storage.patience import CALL_SECONDS, PATIENCE
from ray_job.bucket.storage.refusals import reason_of, storage_error
from ray_job.bucket.storage.stalls import StalledError, StallWatch

_RETRY = DEFAULT_RETRY.with_timeout(CALL_SECONDS)
_LONG = 3600.0
"""Seconds that a large file may take."""
_CONNECT_SECONDS, _SILENCE_SECONDS = 5.0, 10.0
"""To connect, and between two pieces of an answer. Then a new connection is tried."""
_LEAST_SECONDS = 1.0
_MANY = "batch_data/store_id="
"""The objects of which a run reads so many that Arrow's streams save a third of its time."""
_STALL_SECONDS = 5.0
"""After so long a stream of Arrow is given up, and the object is asked for by the other client."""
_STALLS = StallWatch()
_READ_ATTEMPTS = 3
_DAMAGED_ANSWER = (ValueError, KeyError, TypeError, AttributeError)
"""What Google's client raises for JSON that it cannot read, or that has other values."""
_ARROW_CHECKSUM_ERROR = "DATA_LOSS"
"""Arrow's error contains this text if a body does not match the storage's checksum."""


@contextmanager
def _translated_errors(key: str, usual_seconds: float = 3.0) -> Iterator[None]:
    """Raise a client's error as NotFoundError, CorruptError or StorageError that names `key`.

    Callers that send a precondition catch its failure before. Raises StorageError at once if
    the storage has kept this process waiting for too long; see `patience`.
    """
    with PATIENCE.call(key, usual_seconds), _translated(key):
        yield


@contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except (google_errors.NotFound, FileNotFoundError) as error:
        raise NotFoundError(f"{key}: there is no such object") from error
    except DataCorruption as error:
        raise CorruptError(f"{key}: the bytes received do not match the checksum") from error
    except google_errors.RetryError as error:
        reason = innermost_reason(error.cause or error)
        raise StorageError(f"{key}: the storage did not answer in time: {reason}") from error
    except _DAMAGED_ANSWER as error:
        reason = reason_of(error)
        raise StorageError(f"{key}: the storage's answer is damaged: {reason}") from error
    except ChunkedEncodingError as error:
        raise StorageError(f"{key}: the storage's answer ended early") from error
    except (GoogleAPIError, GoogleAuthError, RequestException, OSError, ArrowException) as error:
        raise storage_error(key, error) from error


def _read_repeatedly(read: Callable[[], bytes]) -> bytes:
    """Repeat a read whose bytes ended early or were others; the clients do not always repeat it."""
    for _ in range(_READ_ATTEMPTS - 1):
        try:
            return read()
        except (DataCorruption, ChunkedEncodingError):
            continue
        except OSError as error:
            if _ARROW_CHECKSUM_ERROR not in str(error):
                raise
    return read()


def _verify(blob: Any, checksum: str) -> None:
    """Raise DataCorruption for bytes of another checksum than the object's.

    The client does not verify an answer that it put together from several requests.
    """
    if blob.crc32c and crc32c_from_base64(blob.crc32c) != checksum:
        raise DataCorruption(None, "the bytes received do not match the checksum")


def _patiently() -> dict[str, Any]:
    """How long the next call waits for an answer, and how it is tried again."""
    longest = _RETRY.timeout
    seconds = PATIENCE.call_seconds()
    retry = _RETRY.with_timeout(seconds if longest is None else min(longest, seconds))
    most = max(seconds, _LEAST_SECONDS)
    timeout = (min(_CONNECT_SECONDS, most), min(_SILENCE_SECONDS, most))
    return {"retry": retry, "timeout": timeout}


@dataclass(frozen=True, slots=True)
class GcsStorage:
    """The `Storage` of a bucket. An object's name is `prefix` + key."""

    name: str
    prefix: str
    bucket: Any
    arrow: FileSystem

    @classmethod
    def open(cls, url: str) -> GcsStorage:
        """Raises BucketMissingError if there is no such bucket."""
        name, _, prefix = url.removeprefix("gs://").partition("/")
        prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        with _translated_errors(url):
            bucket = google_client().bucket(name)
            exists = bucket.exists(**_patiently())
        if not exists:
            raise BucketMissingError(f"gs://{name}: there is no such bucket")
        return cls(name, prefix, bucket, SubTreeFileSystem(f"{name}/{prefix}", arrow_file_system()))

    @property
    def url(self) -> str:
        return f"gs://{self.name}/{self.prefix}".rstrip("/")

    def read(self, key: str) -> bytes:
        def stream() -> bytes:
            with self.arrow.open_input_stream(key, buffer_size=0) as opened:
                data: bytes = opened.read()
                return data

        if key.startswith(_MANY):
            with suppress(StalledError), _translated_errors(key):
                # Half of what is left is the other client's.
                seconds = min(_STALL_SECONDS, PATIENCE.call_seconds() / 2)
                return _read_repeatedly(lambda: _STALLS.call(stream, seconds))
        # Also where a stream has stalled: on a connection of the other client.
        return self.read_versioned(key).data

    def read_range(self, key: str, begin: int, end: int) -> bytes:
        with _translated_errors(key):
            data: bytes = self._blob(key).download_as_bytes(
                start=begin, end=end - 1, **_patiently(), checksum=None
            )
            return data

    def read_versioned(self, key: str) -> Versioned:
        versioned = self._fetch(key)
        if versioned is None:
            raise NotFoundError(f"{key}: there is no such object")
        return versioned

    def read_if_changed(self, key: str, generation: str) -> Versioned | None:
        return self._fetch(key, if_generation_not_match=int(generation))

    def stat(self, key: str) -> ObjectInfo | None:
        with _translated_errors(key):
            blob = self.bucket.get_blob(self.prefix + key, **_patiently())
            return None if blob is None else self._info(blob)

    def checksum(self, info: ObjectInfo) -> str:
        with _translated_errors(info.key):
            blob = self._blob(info.key)
            blob.reload(**_patiently())
        return crc32c_from_base64(blob.crc32c)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        fields = "items(name,size,generation,timeCreated),nextPageToken"
        blobs = iter(
            self.bucket.client.list_blobs(
                self.bucket, prefix=self.prefix + prefix, fields=fields, **_patiently()
            )
        )
        while True:
            # What the caller does in between is no waiting.
            with _translated_errors(prefix):
                blob = next(blobs, None)
                info = None if blob is None else self._info(blob)
            if info is None:
                return
            yield info

    def create(self, key: str, data: bytes) -> None:
        keys.check(key)
        blob = self._blob(key)
        with _translated_errors(key):
            try:
                blob.upload_from_string(
                    data, if_generation_match=0, **_patiently(), checksum="crc32c"
                )
            except google_errors.PreconditionFailed:
                if self.read_versioned(key).data != data:
                    raise ConflictError(
                        f"{key}: the object exists already, with other content"
                    ) from None

    def replace(self, key: str, data: bytes, generation: str | None) -> str:
        keys.check(key)
        blob = self._blob(key)
        with _translated_errors(key):
            try:
                blob.upload_from_string(
                    data,
                    if_generation_match=0 if generation is None else int(generation),
                    **_patiently(),
                    checksum="crc32c",
                )
            except google_errors.PreconditionFailed:
                return self._own_generation(key, data)
        return str(blob.generation)

    def write_unseen(self, key: str, data: bytes) -> None:
        keys.check(key)
        with _translated_errors(key):
            self._blob(key).upload_from_string(data, **_patiently(), checksum="crc32c")

    def sync(self) -> None:
        """Does nothing: an acknowledged object is durable."""

    def remove_leftovers(self, before: datetime) -> int:  # noqa: ARG002 - the interface
        """Does nothing: an object exists as a whole, and an upload that was left ends by itself."""
        return 0

    def delete(self, key: str, generation: str) -> None:
        with _translated_errors(key):
            try:
                self._blob(key).delete(
                    if_generation_match=int(generation),
                    **_patiently(),
                )
            except google_errors.NotFound:
                return
            except google_errors.PreconditionFailed:
                raise ConflictError(f"{key}: another writer changed the object") from None

    def upload(self, path: Path, key: str) -> None:
        keys.check(key)
        blob = self._blob(key)
        with _translated_errors(key, _LONG):
            try:
                blob.upload_from_filename(
                    str(path),
                    if_generation_match=0,
                    **_patiently(),
                    checksum="crc32c",
                )
            except google_errors.PreconditionFailed:
                info = self.stat(key)
                if info is None or self.checksum(info) != crc32c_of_file(path):
                    raise ConflictError(
                        f"{key}: the object exists already, with other content"
                    ) from None

    def download(self, key: str, path: Path) -> None:
        def fetch() -> bytes:
            blob = self._blob(key)
            file.seek(0)
            file.truncate()
            blob.download_to_file(file, **_patiently(), checksum="crc32c")
            file.flush()
            _verify(blob, crc32c_of_file(path))
            return b""

        with _translated_errors(key, _LONG), path.open("xb") as file:
            _read_repeatedly(fetch)

    def delta(self, root: str) -> tuple[str, dict[str, str]]:
        return f"gs://{self.name}/{self.prefix}{root}", delta_options(PATIENCE.call_seconds())

    def _blob(self, key: str) -> Any:
        return self.bucket.blob(self.prefix + key)

    def _fetch(self, key: str, **condition: int) -> Versioned | None:
        blob = self._blob(key)

        def fetch() -> bytes:
            data: bytes = blob.download_as_bytes(**_patiently(), checksum="crc32c", **condition)
            _verify(blob, crc32c_of_bytes(data))
            return data

        with _translated_errors(key):
            try:
                data = _read_repeatedly(fetch)
            except google_errors.NotModified:
                return None
        return Versioned(data, str(blob.generation))

    def _own_generation(self, key: str, data: bytes) -> str:
        """The generation of an object that holds `data` already. Raises ConflictError."""
        try:
            current = self.read_versioned(key)
        except NotFoundError:
            current = None
        if current is None or current.data != data:
            raise ConflictError(f"{key}: another writer changed the object") from None
        return current.generation

    def _info(self, blob: Any) -> ObjectInfo:
        key = blob.name.removeprefix(self.prefix)
        # Some servers leave the size of an empty object out.
        return ObjectInfo(key, int(blob.size or 0), str(blob.generation), blob.time_created)
