"""Parts that lie there already: what an earlier attempt or run did need not be done again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket import keys, parts
from ray_job.bucket.errors import CorruptError, NotFoundError
from ray_job.bucket.parts import WrittenPart
from ray_job.bucket.storage import Storage
from ray_job.forecasting.task import RETRIABLE
from ray_job.plan import Chunk

_LONGEST_AGE = timedelta(days=6)
"""Clean-up may delete what nothing reaches from 7 days on; a day is left for the run."""

_CONCURRENCY = 16


@dataclass(frozen=True, slots=True)
class ExistingParts:
    """`done` is the last valid part, if there is one; `attempts` parts lie there in all.

    `best` is the last part that can be read, valid or not: after the last attempt it counts.
    """

    done: WrittenPart | None
    best: WrittenPart | None
    attempts: int


def find(
    storage: Storage,
    as_of: date,
    chunks: Sequence[Chunk],
    now: datetime,
    reachable: Collection[str] = (),
) -> Iterator[ExistingParts]:
    """What is there of each chunk, in their order.

    Parts are asked for by name, never listed. One that is older than six days counts only if
    something reaches it, since clean-up may be about to delete it.
    """
    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        yield from pool.map(lambda chunk: _find(storage, as_of, chunk, now, reachable), chunks)


def read(storage: Storage, key: str, digest: str, attempt: int) -> WrittenPart:
    """The outcomes of a part of the chunk `digest`, all of whose bytes were checked.

    Raises NotFoundError or CorruptError.
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
    except (KeyError, ValueError) as error:
        raise CorruptError(f"{key}: the footer lacks {error}") from error


def is_final(outcomes: pa.Table) -> bool:
    """Whether no store of a part failed for a reason that another attempt may mend."""
    return not pc.any(pc.is_in(outcomes["reason_code"], pa.array(sorted(RETRIABLE)))).as_py()


def _find(
    storage: Storage, as_of: date, chunk: Chunk, now: datetime, reachable: Collection[str]
) -> ExistingParts:
    valid: WrittenPart | None = None
    best: WrittenPart | None = None
    attempt = 0
    while True:
        key = keys.part(as_of, chunk.digest, attempt)
        try:
            done = read(storage, key, chunk.digest, attempt)
        except NotFoundError:
            return ExistingParts(valid, best, attempt)
        except CorruptError:
            attempt += 1
            continue
        attempt += 1
        if now - done.generated_at <= _LONGEST_AGE or key in reachable:
            best = done
            valid = done if is_final(done.outcomes) else valid
