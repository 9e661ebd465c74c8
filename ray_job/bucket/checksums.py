"""Checksums as the storage counts them."""

from __future__ import annotations

import base64
from pathlib import Path

import google_crc32c

_BLOCK = 4 * 2**20


def crc32c_of_file(path: Path) -> str:
    """The CRC32C of a file's content, in the form that `Storage.checksum` gives."""
    digest = google_crc32c.Checksum()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return f"crc32c:{digest.hexdigest().decode()}"


def crc32c_from_base64(text: str) -> str:
    """The same, from the base64 text in which Google Cloud Storage tells it."""
    return f"crc32c:{base64.b64decode(text).hex()}"
