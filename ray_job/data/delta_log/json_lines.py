"""The names of a log's objects, and the JSON lines and paths in them as Arrow arrays."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
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


def unquoted(paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """The paths of files. The log has them as parts of a URL."""
    if not pc.any(pc.match_substring(paths, "%")).as_py():
        return paths
    return pa.chunked_array([pa.array([unquote(path) for path in paths.to_pylist()], pa.string())])


def decoded_paths(adds: pa.ChunkedArray) -> pa.ChunkedArray:
    """The actions with `unquoted` paths."""
    paths = pc.struct_field(adds, "path")
    if not pc.any(pc.match_substring(paths, "%")).as_py():
        return adds
    whole = adds.combine_chunks()
    names = [each.name for each in whole.type]
    columns = [whole.field(name) for name in names]
    columns[names.index("path")] = unquoted(paths).combine_chunks()
    return pa.chunked_array([pa.StructArray.from_arrays(columns, names)])
