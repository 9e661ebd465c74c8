"""Records: JSON objects in the bucket, as frozen Python objects."""

from __future__ import annotations

import json
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from ray_job.bucket.compatibility import check_format
from ray_job.bucket.errors import CorruptError


class Record(BaseModel):
    """A JSON object. A reader ignores unknown keys, since a newer writer may add some."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def to_bytes(self) -> bytes:
        """Indented JSON in UTF-8, with a line feed at the end."""
        return self.model_dump_json(indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, key: str) -> Self:
        """Raises CorruptError, which names `key` and the first bad field, for any other bytes.

        Raises UnknownFormatError, which is a CorruptError, for a record of a later format.
        """
        if b'"format"' in data:
            check_format(_format(data), key)
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise CorruptError(f"{key}: {where}: {first['msg']}") from error


def _format(data: bytes) -> object:
    """The number of the record's format, None if it has none or is no JSON object."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return document.get("format") if isinstance(document, dict) else None
