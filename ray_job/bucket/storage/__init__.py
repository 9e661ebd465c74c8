"""Storage: the interface to the bucket, a local directory or Google Cloud Storage."""

from ray_job.bucket.storage.address import local_directory, make_directory, open_bucket
from ray_job.bucket.storage.interface import ObjectInfo, Storage, Versioned

__all__ = ["ObjectInfo", "Storage", "Versioned", "local_directory", "make_directory", "open_bucket"]
