"""New series: forecast by the usual sales of similar ones, until their own level takes over.

A new series has too few days for the model. Its forecast is the usual sales of similar series on
days of the target's kind (its weekday, with or without promotion), times a factor for its own
level. The factor is a credibility estimate (Bühlmann, Experience rating and credibility, 1967):
1 + Z (r − 1), where r is its own sales over the similar ones' usual sales on the same days, and
Z = n / (n + K) for n own days. K is the variance of a day's sales around what is usual, divided by
the variance of levels among similar series. So the first days count much where days are alike and
series differ, and little where days are noise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from ray_job.data.panel import Floats, Floats32, Panel
from ray_job.features.day_kinds import kinds_of_days
from ray_job.model.intervals import Calibration
from ray_job.model.item_levels import ItemLevels

Ints = npt.NDArray[np.int64]

OWN_DAYS = 56
"""Own sales of so many days before the as-of count."""
_SCALES = 2.0
"""Intervals are at least so many usual spreads wide: such a forecast is trusted less."""
_SCALES_OF_ITEMS = 1.0
"""So are those of new items of old stores, where noise is most of the spread."""


@dataclass(frozen=True, slots=True)
class SimilarSales:
    """The usual sales of what a new store resembles.

    `source` says what that is. `usual` has, by item id, the usual sales of each kind of day (see
    `kinds_of_days`); item "" is the whole store. `within` is the variance of a day's sales over
    what is usual, `between` that of levels among similar series. Intervals are at least `scales`
    usual spreads wide.
    """

    source: str
    usual: Mapping[str, tuple[float, ...]]
    within: float
    between: float
    scales: float = _SCALES

    @property
    def items(self) -> list[str]:
        """The items that a store of this kind sells; the whole store where it has none."""
        return sorted(item for item in self.usual if item) or [""]

    def digest(self) -> str:
        content = [self.source, sorted(self.usual.items()), self.within, self.between]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def credibility(self, days: Floats) -> Floats:
        """Z of the docstring for numbers of own days."""
        return np.asarray(days / (days + self.within / self.between))


def is_new(panel: Panel, similar: Mapping[str, SimilarSales], days: int) -> npt.NDArray[np.bool_]:
    """(n,): the series of new stores with fewer than `days` known open days, and a similar one."""
    result = np.zeros(panel.n_series, dtype=np.bool_)
    rows = [
        row
        for row, store in enumerate(panel.store_ids)
        if store in similar and panel.item_ids[row] in similar[store].usual
    ]
    if rows:
        places = np.array(rows, dtype=np.int64)
        result[places] = _own_sales(panel, places)[1].sum(axis=1) < days
    return result


def new_items(panel: Panel, days: int) -> npt.NDArray[np.bool_]:
    """(n,): the items with fewer than `days` known days, all of them among the last.

    A series of which older days are known is not new.
    """
    known = np.isfinite(panel.sales)
    begin = max(0, panel.sales.shape[1] - OWN_DAYS)
    young = ~known[:, :begin].any(axis=1) & (known[:, begin:].sum(axis=1) < days)
    return np.asarray(young & (panel.item_ids != ""))


def by_item_levels(panel: Panel, rows: Ints, levels: ItemLevels) -> dict[str, SimilarSales]:
    """What new items, of which `rows` chooses the series, are forecast by, for each store.

    All items of `rows` must be known to the levels, or none.
    """
    known = len(rows) > 0 and panel.item_ids[rows[0]] in levels.items
    return {
        store: SimilarSales(
            "the same items in other stores" if known else "the other items",
            {item: levels.usual(store, item) for item in panel.item_ids[rows]},
            levels.within,
            levels.between if known else levels.between_unknown,
            _SCALES_OF_ITEMS,
        )
        for store in set(panel.store_ids[rows])
    }


def by_similar_sales(
    panel: Panel,
    rows: Ints,
    target: date,
    similar: Mapping[str, SimilarSales],
    calibration: Calibration,
    horizon: int,
) -> tuple[Floats, Floats, Floats, Floats]:
    """Prediction, lower and upper bound and scale of new series, each of the length of `rows`.

    `panel` ends with the as-of, and `rows` chooses series of stores of `similar`.
    """
    sales, known = _own_sales(panel, rows)
    days = sales.shape[1]
    sources = [similar[panel.store_ids[row]] for row in rows]
    usual = np.array(
        [source.usual[panel.item_ids[row]] for source, row in zip(sources, rows, strict=True)]
    )
    first = panel.last_day - timedelta(days=days - 1)
    last = panel.sales.shape[1]
    kinds = kinds_of_days(first, _promo(panel, rows, slice(last - days, last)), days)
    expected = np.where(known, np.take_along_axis(usual, kinds, axis=1), 0.0).sum(axis=1)
    own = np.where(known, np.maximum(sales, 0.0), 0.0).sum(axis=1)
    number = known.sum(axis=1).astype(np.float64)
    z = np.array([source.credibility(n) for source, n in zip(sources, number, strict=True)])
    ratio = np.where(expected > 0, own / np.where(expected > 0, expected, 1.0), 1.0)
    column = panel.column(target)
    kind = kinds_of_days(target, _promo(panel, rows, slice(column, column + 1)), 1)
    predicted = np.take_along_axis(usual, kind, axis=1)[:, 0] * (1.0 + z * (ratio - 1.0))
    between = np.array([source.between for source in sources])
    least = calibration.usual_spread * np.array([source.scales for source in sources])
    scale = np.sqrt(least * least + (1.0 - z) * between)
    bounds = calibration.interval(predicted, scale, np.full(len(rows), float(horizon)))
    return predicted, *bounds, scale


def panel_of_new_series(
    series: Sequence[tuple[str, str]],
    first_day: date,
    as_of: date,
    last_day: date,
    known_ahead: Collection[str],
) -> Panel:
    """A panel of series (store, item), sorted, of which nothing is known."""
    days, all_days = (as_of - first_day).days + 1, (last_day - first_day).days + 1
    unknown = np.full((len(series), all_days), np.nan, dtype=np.float32)
    return Panel(
        store_ids=np.array([store for store, _ in series], dtype=np.object_),
        item_ids=np.array([item for _, item in series], dtype=np.object_),
        first_day=first_day,
        sales=np.full((len(series), days), np.nan),
        known_ahead=dict.fromkeys(known_ahead, unknown),
        delivered=np.zeros(len(series), dtype=np.int64),
    )


def with_new_series(
    panels: Iterable[Panel],
    stores: Collection[str],
    similar: Mapping[str, SimilarSales],
    dates: tuple[date, date, date],
    known_ahead: Collection[str],
) -> Iterator[Panel]:
    """The panels of these stores, and one of the series that new ones of them lack.

    `dates` are the first day, the as-of and the last day of panels. Without `similar` nothing is
    added.
    """
    existing: set[tuple[str, str]] = set()
    for panel in panels:
        if similar:
            existing.update(zip(panel.store_ids, panel.item_ids, strict=True))
        yield panel
    missing = missing_series(stores, existing, similar) if similar else []
    if missing:
        yield panel_of_new_series(missing, *dates, known_ahead)


def missing_series(
    stores: Collection[str],
    existing: Collection[tuple[str, str]],
    similar: Mapping[str, SimilarSales],
) -> list[tuple[str, str]]:
    """The series that new ones of these stores lack, sorted: those that similar stores have.

    `existing` are the series of which something was delivered. A store whose series is the whole
    store lacks none.
    """
    whole = {store for store, item in existing if not item}
    wanted = {
        (store, item)
        for store in stores
        if store in similar and store not in whole
        for item in similar[store].items
    }
    of_items = {store for store, item in existing if item}
    return sorted(
        (store, item) for store, item in wanted - set(existing) if item or store not in of_items
    )


def _promo(panel: Panel, rows: Ints, columns: slice) -> Floats32 | None:
    return panel.known_ahead["promo"][rows, columns] if "promo" in panel.known_ahead else None


def _own_sales(panel: Panel, rows: Ints) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """The sales (r, days) of the last days, and which of them are of known open days."""
    end = panel.sales.shape[1]
    begin = max(0, end - OWN_DAYS)
    sales = panel.sales[rows, begin:]
    known = np.isfinite(sales)
    if "open" in panel.known_ahead:
        known &= panel.known_ahead["open"][rows, begin:end] != 0
    return sales, known
