"""What new stores are forecast by: a store that the stores table names, or its region and format.

Only chunks with a new store depend on it: their digest covers what is here of their stores.
"""

from __future__ import annotations

import hashlib
import heapq
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket.storage import Storage
from ray_job.data.context.context import LIKE
from ray_job.data.context.tables import ContextTables
from ray_job.data.panel import Floats, Panel
from ray_job.data.panel_builder import panels
from ray_job.data.partition import Columns, read_store
from ray_job.data.requests import map_in_order
from ray_job.data.store_days import RowMeaning
from ray_job.features.day_kinds import KINDS_OF_DAYS, WEEK, kinds_of_days
from ray_job.forecasting.similar import SimilarSales

_log = logging.getLogger(__name__)

FORMAT = "format"
"""The column of the stores table that says what kind of store it is."""

_STORES = 12
"""A median is of at most so many stores."""
_FEWEST_STORES = 3
_DAYS = 56
_MOST_BYTES = 32 * 2**20
"""Stores with larger histories are not read."""
_LEAST_VARIANCE, _MOST_VARIANCE = 0.01, 2.0
_LEAST_BETWEEN = 0.02
_WITHIN, _BETWEEN = 0.1, 0.2
"""Where there are too few similar stores to compute them."""


@dataclass(frozen=True, slots=True)
class _Usual:
    """The usual sales of a store: by item, and as "" of all of them; (14,) by kind of day.

    `within` has the mean of ((sales − usual) / usual)² of each series.
    """

    by_item: Mapping[str, Floats]
    within: Mapping[str, float]


def new_stores(files: pa.Table, expected: Collection[str], as_of: date, days: int) -> list[str]:
    """The expected stores without a file, or whose files begin fewer than `days` days ago; sorted.

    `files` are all of plan.FILES_SCHEMA. A file without dates may be old.
    """
    first = files.group_by("store_id").aggregate(
        [("first_date", "min"), ("first_date", "count"), ("path", "count")]
    )
    begins = pc.greater(first["first_date_min"], pa.scalar(as_of - timedelta(days=days)))
    is_known = pc.equal(first["first_date_count"], first["path_count"])
    young = first.filter(pc.and_(is_known, pc.fill_null(begins, False)))["store_id"].to_pylist()
    with_files = set(first["store_id"].to_pylist())
    wanted = set(expected)
    return sorted({*(wanted - with_files), *(wanted & set(young))})


def similar_sales(
    storage: Storage,
    files: pa.Table,
    tables: ContextTables,
    stores: Sequence[str],
    as_of: date,
    reading: RowMeaning,
    columns: Columns,
) -> dict[str, SimilarSales]:
    """What each of the new `stores` is forecast by; stores that resemble nothing are left out.

    A store whose `like` names an old store is forecast by it. Else the median is taken of up to 12
    old stores of its region and format; of its region, of its format or of the chain where these
    are fewer than three.
    """
    if not stores:
        return {}
    described = tables.descriptions_of(stores)
    pool = _OldStores(files, tables, stores)
    groups = {store: pool.group(described.get(store, {})) for store in stores}
    likes = {store: pool.like(store, described.get(store, {})) for store in stores}
    needed = {member for _, members in groups.values() for member in members}
    needed |= {like for like in likes.values() if like is not None}
    usual = dict(_read(storage, files, sorted(needed), as_of, reading, columns))
    result: dict[str, SimilarSales] = {}
    for store in stores:
        name, members = groups[store]
        of_group = [usual[member] for member in members if member in usual]
        like = likes[store]
        if like is not None and like in usual:
            chosen, source = [usual[like]], f"store {like}"
        else:
            chosen, source = of_group, f"the median of {len(of_group)} stores {name}"
        if chosen:
            result[store] = _summarise(source, chosen, of_group)
    return result


_Kind = tuple[object, object]
"""The region and the format of a store; None where it is unknown, or makes no difference."""
_CHAIN: _Kind = (None, None)


class _OldStores:
    """The stores with a history that is not too large to be read."""

    def __init__(self, files: pa.Table, tables: ContextTables, new: Sequence[str]) -> None:
        sizes = files.group_by("store_id").aggregate([("bytes", "sum")])
        small = sizes.filter(pc.less_equal(sizes["bytes_sum"], _MOST_BYTES))["store_id"].to_pylist()
        kinds = _kinds(tables)
        self._old = set(small) - set(new)
        wanted = {group for store in new for group in _groups(kinds.get(store, _CHAIN))}
        self._stores: dict[_Kind, list[str]] = {group: [] for group in wanted}
        self._stores[_CHAIN] = list(self._old)
        for store in self._old if wanted else ():
            for group in _groups(kinds.get(store, _CHAIN)):
                if group in wanted:
                    self._stores[group].append(store)
        self._members: dict[_Kind, list[str]] = {}

    def group(self, row: Mapping[str, object]) -> tuple[str, list[str]]:
        """The name of the group that a new store belongs to, and some of its old stores."""
        for group in _groups((row.get("region"), row.get(FORMAT))):
            members = self._first(group)
            if len(members) >= _FEWEST_STORES:
                names = zip(("region", "format"), group, strict=True)
                return f"of {' and '.join(f'{n} {value}' for n, value in names if value)}", members
        return "of the chain", self._first(_CHAIN)

    def _first(self, kind: _Kind) -> list[str]:
        """The first stores of a kind in the order of the sha256 of their ids."""
        if kind not in self._members:
            stores = self._stores.get(kind, ())
            self._members[kind] = heapq.nsmallest(
                _STORES, stores, key=lambda store: hashlib.sha256(store.encode()).digest()
            )
        return self._members[kind]

    def like(self, store: str, row: Mapping[str, object]) -> str | None:
        """The old store that the row names as similar, None if it names none."""
        named = row.get(LIKE)
        if named is None or named == "":
            return None
        is_whole = isinstance(named, float) and named.is_integer()
        like = str(int(named)) if isinstance(named, float) and is_whole else str(named)
        if like in self._old:
            return like
        _log.warning(
            "stores: %s is like %r, which has no history of its own; it is forecast by the median"
            " of its region and format",
            store,
            like,
        )
        return None


def _kinds(tables: ContextTables) -> dict[str, _Kind]:
    """The kind of each store of the stores table."""
    stores = tables.stores
    if stores is None:
        return {}
    regions, formats = (
        stores[name].to_pylist() if name in stores.column_names else [None] * stores.num_rows
        for name in ("region", FORMAT)
    )
    kinds = zip(regions, formats, strict=True)
    return dict(zip(stores["store_id"].to_pylist(), kinds, strict=True))


def _groups(kind: _Kind) -> list[_Kind]:
    """The groups of a store of this kind, the narrowest first, without that of the whole chain."""
    region, form = kind
    groups = dict.fromkeys([(region, form), (region, None), (None, form)])
    return [group for group in groups if group != _CHAIN]


def _read(
    storage: Storage,
    files: pa.Table,
    stores: Sequence[str],
    as_of: date,
    reading: RowMeaning,
    columns: Columns,
) -> Iterator[tuple[str, _Usual]]:
    """The usual sales of each store that can be read and sold anything."""
    of_stores = files.filter(pc.is_in(files["store_id"], pa.array(stores, pa.string())))
    paths: dict[str, list[str]] = {store: [] for store in stores}
    for row in of_stores.select(["store_id", "path"]).to_pylist():
        paths[row["store_id"]].append(row["path"])

    def read(store: str) -> list[Panel]:
        try:
            histories = [(store, read_store(storage, sorted(paths[store]), columns))]
            first = as_of - timedelta(days=_DAYS - 1)
            return list(panels(histories, columns, first, as_of, as_of, reading))
        except Exception as error:  # noqa: BLE001 - the chunk of the store says what is wrong with it
            _log.warning("%s is left out as a similar store: %s", store, error)
            return []

    for store, of_store in zip(stores, map_in_order(storage, read, stores), strict=True):
        usual = _usual(of_store)
        if usual is not None:
            yield store, usual


def _usual(of_store: Sequence[Panel]) -> _Usual | None:
    """The usual sales of a store, None where it sold nothing."""
    by_item: dict[str, Floats] = {}
    within: dict[str, float] = {}
    total: Floats | None = None
    kinds = np.empty((0, 0), dtype=np.int64)
    for panel in of_store:
        known = np.isfinite(panel.sales) & panel.store_sold().sold[panel.store_sold().rows]
        if "open" in panel.known_ahead:
            known &= panel.known_ahead["open"][:, : panel.sales.shape[1]] != 0
        days = panel.sales.shape[1]
        kinds = kinds_of_days(panel.first_day, panel.known_ahead.get("promo"), days)
        for row, item in enumerate(panel.item_ids):
            sales = np.where(known[row], np.maximum(panel.sales[row], 0.0), np.nan)
            _add_usual(str(item), sales, kinds[row % len(kinds)], by_item, within)
        of_panel = np.where(known, np.maximum(panel.sales, 0.0), 0.0).sum(axis=0)
        total = of_panel if total is None else total + of_panel
    if total is None or not (total > 0).any():
        return None
    _add_usual("", np.where(total > 0, total, np.nan), kinds[0], by_item, within)
    return _Usual(by_item, within)


def _add_usual(
    item: str,
    sales: Floats,
    kinds: npt.NDArray[np.int64],
    by_item: dict[str, Floats],
    within: dict[str, float],
) -> None:
    """Add the means of known sales (days,) by kind; nothing where a series sold nothing.

    A kind without a day has the mean of its weekday, times what a promotion changes on the others.
    """
    known = ~np.isnan(sales)
    if not known.any() or not (sales[known] > 0).any():
        return
    counts = np.bincount(kinds[known], minlength=KINDS_OF_DAYS).reshape(2, WEEK)
    sums = np.bincount(kinds[known], weights=sales[known], minlength=KINDS_OF_DAYS).reshape(2, WEEK)
    mean = float(sales[known].mean())
    of_weekday = np.where(
        counts.sum(axis=0) > 0, sums.sum(axis=0) / np.maximum(counts.sum(axis=0), 1), mean
    )
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    both = (counts > 0).all(axis=0) & (means[0] > 0)
    effect = float(np.median(means[1, both] / means[0, both])) if both.any() else 1.0
    means[0] = np.where(np.isnan(means[0]), np.nan_to_num(means[1] / effect, nan=np.nan), means[0])
    means[1] = np.where(np.isnan(means[1]), means[0] * effect, means[1])
    means = np.where(np.isnan(means), of_weekday, means).ravel()
    by_item[item] = means
    usual = np.maximum(means[kinds[known]], 1e-9 + mean / 100)
    within[item] = float((((sales[known] - usual) / usual) ** 2).mean())


def _summarise(source: str, chosen: Sequence[_Usual], group: Sequence[_Usual]) -> SimilarSales:
    """The medians over the chosen stores. An item that fewer than half of them sell has none."""
    nothing: Floats = np.zeros(KINDS_OF_DAYS)
    items = sorted({item for usual in chosen for item in usual.by_item})
    medians: dict[str, npt.NDArray[np.float64]] = {
        item: np.median([usual.by_item.get(item, nothing) for usual in chosen], axis=0)
        for item in items
    }
    within, between = [], []
    for usual in group or chosen:
        for item, noise in usual.within.items():
            level = float(np.mean(medians.get(item, nothing)))
            if level > 0:
                within.append(noise)
                between.append((float(np.mean(usual.by_item[item])) / level - 1.0) ** 2)
    enough = len(group) >= _FEWEST_STORES and len(within) > 0
    return SimilarSales(
        source=source,
        usual={
            item: tuple(float(value) for value in means)
            for item, means in medians.items()
            if means.any()
        },
        within=_limited(float(np.median(within)), _LEAST_VARIANCE) if enough else _WITHIN,
        between=_limited(float(np.mean(np.minimum(between, 1.0))), _LEAST_BETWEEN)
        if enough
        else _BETWEEN,
    )


def _limited(variance: float, least: float) -> float:
    return float(np.clip(variance, least, _MOST_VARIANCE))
