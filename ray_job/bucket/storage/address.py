"""Opening a bucket by its address."""

from __future__ import annotations

from pathlib import Path

from ray_job.bucket.errors import InputError
from ray_job.bucket.storage.directory import DirectoryStorage
from ray_job.bucket.storage.interface import Storage


def open_bucket(url: str) -> Storage:
    """Open `gs://name[/prefix]`, `file://…` or a directory.

    Raises BucketMissingError if the bucket does not exist, and InputError for any other kind of
    address.
    """
    if not url.strip():
        raise InputError(
            "the bucket's address is empty: name one with --bucket or STORECAST_BUCKET"
        )
    if url.startswith("gs://"):
        if not url.removeprefix("gs://").partition("/")[0]:
            raise InputError(f"{url}: the bucket has no name: an address is gs://name[/prefix]")
        # Google's client takes most of a second to import. A directory does not need it.
        from ray_job.bucket.storage.gcs import GcsStorage  # noqa: PLC0415

        return GcsStorage.open(url)
    if "://" in url and not url.startswith("file://"):
        raise InputError(f"{url}: a bucket is a directory, file://… or gs://name[/prefix]")
    return DirectoryStorage.open(Path(url.removeprefix("file://")))
