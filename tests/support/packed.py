"""Histories read with packs and without: they must be the same, bit for bit."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_job import plan
from ray_job.bucket.storage import Storage
from ray_job.data.history_block import ChunkHistories, decode, encode
from ray_job.data.observations import observations
from ray_job.data.packs.index import NO_PACKS, PackIndex
from ray_job.data.panel_builder import panels
from ray_job.data.partition import Columns
from ray_job.forecasting.store_reading import read_histories
from ray_job.plan import Basis, Chunk, ItemRange
from ray_job.settings import Plan

COLUMNS = Columns(("open", "weather"), {"weather": ("dry", "wet")})


def basis(first_day: date, as_of: date, horizon: int = 3) -> Basis:
    return Basis(as_of, horizon, (as_of - first_day).days + 1, "", "", "", "")


def chunk_of(files: pa.Table, dates: Basis) -> Chunk | None:
    """All files of the histories that a run of these dates would read, as one chunk."""
    relevant = plan.relevant(files, dates)
    limits = Plan(chunk_bytes=2**40, chunk_rows=2**40)
    chunks = plan.make(relevant, dates, limits, {})
    return chunks[0] if chunks else None


def chunks_of(files: pa.Table, dates: Basis, bounds: Sequence[str]) -> list[Chunk]:
    """The chunk of all files, and each store cut into ranges of items at these bounds."""
    whole = chunk_of(files, dates)
    if whole is None:
        return []
    edges = [None, *sorted(set(bounds)), None]
    of_stores = [
        (whole.files.filter(pc.equal(whole.files["store_id"], store)), store)
        for store in whole.store_ids
    ]
    return [
        whole,
        *(
            replace(
                whole,
                files=of_store,
                items=ItemRange(first, end),
                digest=f"{store} {first} {end}",
                n_stores=1,
            )
            for of_store, store in of_stores
            for first, end in itertools.pairwise(edges)
        ),
    ]


def both_ways(
    storage: Storage, chunk: Chunk, dates: Basis, packs: PackIndex
) -> tuple[list[Any], list[Any], set[str]]:
    """What a run reads without packs, what it reads with them, and the stores that were packed."""
    plain = read_histories(storage, chunk, COLUMNS, NO_PACKS, dates)
    read = read_histories(storage, chunk, COLUMNS, packs, dates)
    [passed_on] = decode(encode([read]))
    packed = set() if read.packed is None else read.packed.stores
    return (_contents(plain, dates), _contents(passed_on, dates), packed)


def _contents(read: ChunkHistories, dates: Basis) -> list[Any]:
    built = panels(
        read.histories,
        COLUMNS,
        dates.first_day,
        dates.as_of,
        dates.last_day,
        store_days=read.store_days,
        packed=read.packed,
    )
    days = read.store_days or {}
    contents: list[Any] = [
        [(store, of.delivered.tolist(), of.sold.tolist()) for store, of in sorted(days.items())],
        [store for store, _ in read.histories],
        [(store.store_id, store.reason_code) for store in read.unread],
    ]
    for panel in built:
        assert panel.delivered is not None
        assert panel.stores is not None
        contents += [
            panel.store_ids.tolist(),
            panel.item_ids.tolist(),
            _bits(panel.sales),
            *(_bits(values) for values in panel.known_ahead.values()),
            panel.delivered.tolist(),
            panel.stores.sold.tolist(),
            panel.stores.rows.tolist(),
        ]
    seen = observations(
        read.histories,
        COLUMNS.names,
        list(COLUMNS.categories or ()),
        dates.first_day,
        dates.last_day,
        read.packed,
    )
    return [*contents, seen.to_pydict()]


def _bits(values: np.ndarray) -> list[Any]:
    """Bit patterns; every NaN has the same."""
    same_nan = np.where(np.isnan(values), np.nan, values)
    return [values.shape, same_nan.tobytes()]


def days(first: date, numbers: Sequence[int]) -> list[date]:
    return [first + timedelta(days=number) for number in numbers]
