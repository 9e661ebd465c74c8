"""How records lie in the bucket: frozen, as JSON, strict when written, lenient when read."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from ray_job.bucket.errors import CorruptError


class Record(BaseModel):
    """A JSON object of the bucket. Unknown keys are ignored: a newer writer may add some."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def to_bytes(self) -> bytes:
        return self.model_dump_json(indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, key: str) -> Self:
        """Raises CorruptError, naming `key`, where the bytes are not such a record."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise CorruptError(f"{key}: {where}: {first['msg']}") from error
