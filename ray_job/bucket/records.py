"""Records: JSON objects in the bucket, as frozen Python objects."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from ray_job.bucket.errors import CorruptError


class Record(BaseModel):
    """A JSON object. A reader ignores unknown keys, since a newer writer may add some."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def to_bytes(self) -> bytes:
        """Indented JSON in UTF-8, with a line feed at the end."""
        return self.model_dump_json(indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, key: str) -> Self:
        """Raises CorruptError, which names `key` and the first bad field, for any other bytes."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise CorruptError(f"{key}: {where}: {first['msg']}") from error
