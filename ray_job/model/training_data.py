"""The histories as one panel, for training and backtests: all stores, or a sample of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket.errors import InputError
from ray_job.bucket.storage import Storage
from ray_job.data import panel_builder
from ray_job.data.context import Context
from ray_job.data.context.tables import open_context
from ray_job.data.histories import Histories
from ray_job.data.panel import Flags, Panel, StoreSold
from ray_job.data.partition import IN_STOCK, Columns, FileRows, read_store
from ray_job.data.store_days import RowMeaning
from ray_job.features import MAX_CATEGORIES
from ray_job.settings import Settings

_CONCURRENCY = 8


@dataclass(frozen=True, slots=True)
class TrainingData:
    """A panel with its context. `categories` has the values of each text column, by code."""

    panel: Panel
    context: Context
    categories: Mapping[str, Sequence[str]]


def load(
    storage: Storage,
    settings: Settings,
    histories: Histories,
    last_sales: date,
    *,
    days: int,
    known_ahead: Sequence[str] | None = None,
    categories: Mapping[str, Sequence[str]] | None = None,
) -> TrainingData:
    """`days` days of history up to `last_sales`, and known-ahead values for a horizon more.

    If the histories have more rows than `settings.training.history_rows`, stores are taken in the
    order of the sha256 of their ids until this number is reached, so that the sample is always the
    same. Without `categories` they are made from the data, the most frequent values first.
    """
    first_day = last_sales - timedelta(days=days - 1)
    last_target = last_sales + timedelta(days=settings.horizon)
    files = _sample(histories.files, settings.training.history_rows)
    existing = [name for name in settings.sales.known_ahead if name in histories.columns.names]
    names = tuple(existing if known_ahead is None else known_ahead)
    stock = IN_STOCK in histories.columns.names
    columns = Columns(names, dict.fromkeys(names, ()), stock)
    stores = _read(storage, files, columns, histories)
    if categories is None:
        texts = histories.categorical(names)
        categories = {name: _values(stores, name) for name in texts}
    coded = Columns(names, categories, stock)
    reading = RowMeaning(settings.sales.missing_is_zero)
    pieces = list(panel_builder.panels(stores, coded, first_day, last_sales, last_target, reading))
    if not pieces:
        raise InputError(f"there are no rows from {first_day} to {last_sales}")
    context = open_context(storage).between(first_day, last_target, settings.country)
    return TrainingData(_stack(pieces), context, categories)


def _sample(files: pa.Table, rows: int) -> pa.Table:
    if pc.sum(files["rows"]).as_py() <= rows:
        return files
    sums = files.group_by("store_id").aggregate([("rows", "sum")]).to_pylist()
    chosen: list[str] = []
    counted = 0
    for row in sorted(sums, key=lambda r: hashlib.sha256(r["store_id"].encode()).digest()):
        chosen.append(row["store_id"])
        counted += row["rows_sum"]
        if counted >= rows:
            break
    return files.filter(pc.is_in(files["store_id"], pa.array(chosen, pa.string())))


def _read(
    storage: Storage, files: pa.Table, columns: Columns, histories: Histories
) -> list[tuple[str, list[FileRows]]]:
    by_store: dict[str, list[str]] = {}
    for store, path in zip(files["store_id"].to_pylist(), files["path"].to_pylist(), strict=True):
        by_store.setdefault(store, []).append(path)
    texts = dict.fromkeys(histories.categorical(columns.names), ())
    typed = Columns(columns.known_ahead, texts, columns.stock)
    workers = _CONCURRENCY if storage.url.startswith("gs://") else 1
    with ThreadPoolExecutor(workers) as pool:
        files_of = pool.map(
            lambda store: read_store(storage, by_store[store], typed), sorted(by_store)
        )
        return list(zip(sorted(by_store), files_of, strict=True))


def _values(stores: Sequence[tuple[str, Sequence[FileRows]]], name: str) -> tuple[str, ...]:
    counted: Counter[str] = Counter()
    for _, files in stores:
        for rows in files:
            for row in pc.value_counts(rows.table[name]).to_pylist():
                if row["values"] is not None:
                    counted[row["values"]] += row["counts"]
    ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return tuple(value for value, _ in ordered[:MAX_CATEGORIES])


def _stack(pieces: Sequence[Panel]) -> Panel:
    if len(pieces) == 1:
        return pieces[0]
    return Panel(
        store_ids=np.concatenate([piece.store_ids for piece in pieces]),
        item_ids=np.concatenate([piece.item_ids for piece in pieces]),
        first_day=pieces[0].first_day,
        sales=np.concatenate([piece.sales for piece in pieces]),
        known_ahead={
            name: np.concatenate([piece.known_ahead[name] for piece in pieces])
            for name in pieces[0].known_ahead
        },
        stores=_stack_stores([piece.store_sold() for piece in pieces]),
        without_stock=_stack_flags(pieces),
    )


def _stack_stores(pieces: Sequence[StoreSold]) -> StoreSold:
    begins = np.cumsum([0, *(len(piece.sold) for piece in pieces)])
    return StoreSold(
        np.concatenate([piece.sold for piece in pieces]),
        np.concatenate([piece.rows + begin for piece, begin in zip(pieces, begins, strict=False)]),
    )


def _stack_flags(pieces: Sequence[Panel]) -> Flags | None:
    """The days without stock of all pieces, None if there are none."""
    if all(piece.without_stock is None for piece in pieces):
        return None
    return np.concatenate(
        [
            np.zeros(piece.sales.shape, dtype=np.bool_)
            if piece.without_stock is None
            else piece.without_stock
            for piece in pieces
        ]
    )


def days_of_training(histories: Histories, settings: Settings, last_day: date) -> int:
    """The number of days up to `last_day` that training reads: `settings.training.history_days`.

    It is at least the lookback. Days before the first row are left out beyond that.
    """
    first: date | None = pc.min(histories.files["first_date"]).as_py()
    days = settings.training.history_days
    if first is not None:
        days = min(days, (last_day - first).days + 1)
    return max(days, settings.lookback_days)
