"""The names of a log's objects, and the JSON lines in them as Arrow arrays."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.json

from ray_job.bucket.errors import CorruptError

COMMIT = re.compile(r"(\d{20})\.json")
CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10}))?\.parquet")
WAY_OUT = (
    "; the commit is damaged or half written: restore the object, or build the table again;"
    " docs/restore.md (The histories) has the commands"
)
_BLOCK_BYTES = 16 * 2**20
"""The longest line of a log that can be read, in bytes."""


_NO_OBJECT = re.compile(rb"\n[ \t]*[^{\r\n \t]")


def read_lines(data: bytes | pa.Buffer, schema: pa.Schema, key: str) -> pa.Table:
    """One row for each line, which is an object. Raises CorruptError.

    Fields that `schema` does not name are ignored.
    """
    way_out = WAY_OUT if COMMIT.search(key) else ""
    # Arrow ends the process where the first lines are `null`.
    first = bytes(memoryview(data)[:64]).lstrip()
    if not first.startswith(b"{") or _NO_OBJECT.search(data):
        raise CorruptError(f"{key}: it has a line that is no action{way_out}")
    try:
        return pyarrow.json.read_json(
            pa.BufferReader(data),
            read_options=pyarrow.json.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="ignore"
            ),
        )
    except pa.ArrowException as error:
        raise CorruptError(f"{key}: {str(error).splitlines()[0]}{way_out}") from error
