"""The parts of chunks in the bucket: written, and found again by later attempts and runs."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket import keys, parts
from ray_job.bucket.errors import ConflictError, CorruptError, NotFoundError
from ray_job.bucket.parts import WrittenPart
from ray_job.bucket.reasons import RETRIABLE
from ray_job.bucket.storage import Storage
from ray_job.forecasting.store_outcomes import ChunkOutput
from ray_job.forecasting.task import RunSpec, Task
from ray_job.plan import Chunk

_LONGEST_AGE = timedelta(days=6)
"""Clean-up may delete an unreachable part from 7 days on. The day between is left for the run."""

_CONCURRENCY = 16


@dataclass(frozen=True, slots=True)
class ExistingParts:
    """The parts of a chunk that are in the bucket; there are `attempts` of them.

    `valid` is the last part without retriable failures. `readable` is the last part that can be
    read at all: it counts once all attempts are used up. None where there is no such part.
    """

    valid: WrittenPart | None
    readable: WrittenPart | None
    attempts: int


def find_parts(
    storage: Storage,
    as_of: date,
    chunks: Sequence[Chunk],
    now: datetime,
    reachable: Collection[str] = (),
) -> Iterator[ExistingParts]:
    """The existing parts of each chunk, in the order of `chunks`.

    Parts are asked for by name and never listed. A part that is older than six days counts only if
    its key is in `reachable`, since clean-up may be about to delete it.
    """
    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        yield from pool.map(
            lambda chunk: _find_parts(storage, as_of, chunk, now, reachable), chunks
        )


def read_part(storage: Storage, key: str, digest: str, attempt: int) -> WrittenPart:
    """The outcomes in a part of the chunk `digest`, after all of the part's bytes were checked.

    Raises NotFoundError, or CorruptError where the object is not a part of this chunk.
    """
    data = storage.read(key)
    part = parts.decode(data, key)
    if part.digest != digest:
        raise CorruptError(f"{key}: the part is of another chunk, {part.digest}")
    parts.read_rows(data, key)
    try:
        return WrittenPart(
            part.outcomes,
            key,
            part.sha256,
            part.info["run_id"],
            datetime.fromisoformat(part.info["generated_at"]),
            attempt + 1,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptError(f"{key}: the footer lacks {error}") from error


def write_part(storage: Storage, task: Task, spec: RunSpec, output: ChunkOutput) -> WrittenPart:
    """Write the part of a chunk, or adopt the part that somebody else wrote meanwhile.

    A rival's part is skipped if it is damaged, or if it has retriable failures and ours has none.
    """
    data = parts.encode(
        output.rows,
        output.outcomes,
        task.chunk.digest,
        run_id=spec.run_id,
        generated_at=spec.generated_at.isoformat(),
    )
    digest = parts.sha256(data)
    for attempt in itertools.count(task.attempt):
        key = keys.part(spec.basis.as_of, task.chunk.digest, attempt)
        try:
            storage.create(key, data)
        except ConflictError:
            rival = _read_rival(storage, key, task.chunk.digest, attempt)
            if rival is None or (is_final(output.outcomes) and not is_final(rival.outcomes)):
                continue
            return rival
        break
    return WrittenPart(output.outcomes, key, digest, spec.run_id, spec.generated_at, attempt + 1)


def is_final(outcomes: pa.Table) -> bool:
    """Whether no store failed for a reason that another attempt may mend."""
    return not pc.any(pc.is_in(outcomes["reason_code"], pa.array(RETRIABLE, pa.string()))).as_py()


def merge_outputs(outputs: Sequence[ChunkOutput]) -> ChunkOutput:
    """Outputs of a chunk's stores, in the order of stores, as one output with new row ranges."""
    rows = pa.concat_tables([output.rows for output in outputs])
    offsets = np.cumsum([0, *(output.rows.num_rows for output in outputs)])
    outcomes = [
        output.outcomes.set_column(
            output.outcomes.schema.get_field_index("first_row"),
            "first_row",
            pa.array(
                [
                    None if first is None else first + int(offset)
                    for first in output.outcomes["first_row"].to_pylist()
                ],
                pa.int64(),
            ),
        )
        for output, offset in zip(outputs, offsets, strict=False)
    ]
    return ChunkOutput(rows, pa.concat_tables(outcomes))


def _read_rival(storage: Storage, key: str, digest: str, attempt: int) -> WrittenPart | None:
    try:
        return read_part(storage, key, digest, attempt)
    except CorruptError:
        return None


def _find_parts(
    storage: Storage, as_of: date, chunk: Chunk, now: datetime, reachable: Collection[str]
) -> ExistingParts:
    valid: WrittenPart | None = None
    readable: WrittenPart | None = None
    attempt = 0
    while True:
        key = keys.part(as_of, chunk.digest, attempt)
        try:
            part = read_part(storage, key, chunk.digest, attempt)
        except NotFoundError:
            return ExistingParts(valid, readable, attempt)
        except CorruptError:
            attempt += 1
            continue
        attempt += 1
        if now - part.generated_at <= _LONGEST_AGE or key in reachable:
            readable = part
            valid = part if is_final(part.outcomes) else valid
