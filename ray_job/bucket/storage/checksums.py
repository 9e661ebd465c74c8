"""CRC32C checksums of files, in the form that `Storage.checksum` returns."""

from __future__ import annotations

import base64
from pathlib import Path

import google_crc32c

from ray_job.bucket.storage.local_files import open_binary

_BLOCK = 4 * 2**20


def crc32c_of_file(path: Path) -> str:
    """The CRC32C of the file's content, as `crc32c:<8 hex digits>`. Raises OSError."""
    digest = google_crc32c.Checksum()
    with open_binary(path) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return f"crc32c:{digest.hexdigest().decode()}"


def crc32c_of_bytes(data: bytes) -> str:
    """The CRC32C of bytes, in the same form."""
    return f"crc32c:{google_crc32c.value(data):08x}"


def crc32c_from_base64(text: str) -> str:
    """Convert the base64 text that Google Cloud Storage reports into the same form."""
    return f"crc32c:{base64.b64decode(text).hex()}"
