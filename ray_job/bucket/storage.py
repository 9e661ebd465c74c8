"""Opening a bucket by its address; what it then can do says `Storage`."""

from __future__ import annotations

from pathlib import Path

from ray_job.bucket.directory import DirectoryStorage
from ray_job.bucket.errors import InputError
from ray_job.bucket.interface import ObjectInfo, Storage, Versioned

__all__ = ["ObjectInfo", "Storage", "Versioned", "open_bucket"]


def open_bucket(url: str) -> Storage:
    """Open `gs://name[/prefix]`, `file://…` or a directory.

    Raises BucketMissingError where it does not exist, InputError for another kind of address.
    """
    if not url.strip():
        raise InputError("the bucket's address is empty: --bucket or STORECAST_BUCKET names one")
    if url.startswith("gs://"):
        # Google's client takes most of a second to import, which a directory need not wait for.
        from ray_job.bucket.gcs import GcsStorage  # noqa: PLC0415

        return GcsStorage.open(url)
    if "://" in url and not url.startswith("file://"):
        raise InputError(f"{url}: a bucket is a directory, file://… or gs://name[/prefix]")
    return DirectoryStorage.open(Path(url.removeprefix("file://")))
