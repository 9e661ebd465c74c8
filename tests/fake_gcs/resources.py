"""The JSON API's documents: what it calls a bucket and an object."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from .objects import Refusal, crc32c, md5

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from .objects import Bucket, Stored

_WRITABLE: Final = (
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "contentType",
    "customTime",
    "metadata",
)


def timestamp(moment: datetime) -> str:
    """RFC 3339 with milliseconds, as the storage writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def root(headers: Mapping[str, str]) -> str:
    """The address that the client used."""
    return f"http://{headers.get('host', '127.0.0.1')}"


def writable(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Those fields of a sent resource that a client may set."""
    return {name: resource[name] for name in _WRITABLE if name in resource}


def bucket_resource(bucket: Bucket) -> dict[str, Any]:
    return {
        "kind": "storage#bucket",
        "id": bucket.name,
        "name": bucket.name,
        "projectNumber": "1",
        "metageneration": "1",
        "location": "EUROPE-WEST1",
        "locationType": "region",
        "storageClass": "STANDARD",
        "etag": "CAE=",
        "timeCreated": timestamp(bucket.created),
        "updated": timestamp(bucket.created),
    }


def object_resource(stored: Stored, address: str) -> dict[str, Any]:
    path = f"b/{quote(stored.bucket)}/o/{quote(stored.key, safe='')}"
    version = f"{stored.generation}/{stored.metageneration}"
    created = timestamp(stored.created)
    resource = {
        "kind": "storage#object",
        "id": f"{stored.bucket}/{stored.key}/{stored.generation}",
        "selfLink": f"{address}/storage/v1/{path}",
        "mediaLink": f"{address}/download/storage/v1/{path}"
        f"?generation={stored.generation}&alt=media",
        "name": stored.key,
        "bucket": stored.bucket,
        "generation": str(stored.generation),
        "metageneration": str(stored.metageneration),
        "storageClass": "STANDARD",
        "size": str(len(stored.body)),
        "crc32c": stored.crc32c,
        "etag": base64.b64encode(version.encode()).decode(),
        "timeCreated": created,
        "updated": timestamp(stored.updated),
        "timeStorageClassUpdated": created,
        **{name: value for name, value in stored.fields.items() if value is not None},
    }
    if stored.md5:
        resource["md5Hash"] = stored.md5
    if stored.components:
        resource["componentCount"] = stored.components
    return resource


def sent_sums(header: str) -> dict[str, str]:
    """The checksums of an x-goog-hash header, named as in a resource."""
    sent = dict(part.strip().split("=", 1) for part in header.split(",") if "=" in part)
    return {
        name: sent[short]
        for short, name in (("crc32c", "crc32c"), ("md5", "md5Hash"))
        if short in sent
    }


def verify(body: bytes, resource: Mapping[str, Any]) -> None:
    """Refuse bytes that are not those of the checksums that came with them."""
    for name, sum_of in (("crc32c", crc32c), ("md5Hash", md5)):
        if (sent := resource.get(name)) and sent != (actual := sum_of(body)):
            raise Refusal(
                400, "invalid", f"Provided {name} {sent} is not that of the bytes, {actual}."
            )
