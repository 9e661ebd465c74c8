"""The page for managers as HTML. It has no script and loads nothing from another host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

from api.problems import ProblemError, ProblemKind
from api.store.items import Item, ItemPage
from api.store.scores import ScoredDay
from api.store.snapshot import ForecastDay, Snapshot, StoreForecast
from api.views import page_text
from api.views.forecasts import AnswerBasis
from api.views.history import summarise
from api.views.language import Language
from api.views.plot import NARROW, WIDE, PlotDay, plot
from api.views.rendering import render

STORES_ON_A_PAGE = 50
ITEMS_ON_A_PAGE = 50
PAST_DAYS = 28
ORDERS = ("problems", "store_id", "name", "region", "predicted_sales")
"""The orders of the list of stores, as the page offers them."""
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Which part of the list of stores is shown. It is remembered in every link of the pages."""

    search: str = ""
    order: str = "problems"
    problems_only: bool = False
    page: int = 1

    def parameters(self, page: int | None = None) -> dict[str, str]:
        """The parameters of the address, without those that have their default."""
        parameters = {
            "q": self.search,
            "order": "" if self.order == "problems" else self.order,
            "only": "problems" if self.problems_only else "",
            "page": str(page or self.page) if (page or self.page) > 1 else "",
        }
        return {name: value for name, value in parameters.items() if value}

    def address(self, page: int | None = None) -> str:
        query = urlencode(self.parameters(page))
        return f"/?{query}" if query else "/"


@dataclass(frozen=True, slots=True)
class PageBasis:
    """What every page is made from."""

    snapshot: Snapshot
    basis: AnswerBasis
    language: Language
    silent_days: int
    query: ListQuery


@dataclass(frozen=True, slots=True)
class StoreRows:
    """The rows that match, those that the caller may see, and those of stores with problems."""

    matching: Sequence[int]
    visible: Sequence[int]
    problems: frozenset[int]


@dataclass(frozen=True, slots=True)
class ItemsShown:
    """A page of items. `matching` are all that match the search. `items` None: cannot be read."""

    items: ItemPage | None
    search: str = ""
    page: int = 1
    matching: int = 0
    accuracy: Mapping[str, float] | None = None


def problem_page(
    kind: ProblemKind, error: ProblemError, language: Language, query: ListQuery
) -> str:
    title, detail = kind.title, f"{error}."
    if kind.slug in language.problems:
        title, _, detail = language.problems[kind.slug].partition("|")
    return render("problem.html", **_frame(language, query), title=title, detail=detail)


def store_list_page(shown: PageBasis, rows: StoreRows) -> str:
    """`STORES_ON_A_PAGE` of the rows that match."""
    snapshot, basis, query = shown.snapshot, shown.basis, shown.query
    pages = max(-(-len(rows.matching) // STORES_ON_A_PAGE), 1)
    page = min(query.page, pages)
    first = (page - 1) * STORES_ON_A_PAGE
    stores = snapshot.forecasts_at(rows.matching[first : first + STORES_ON_A_PAGE])
    dates = sorted(
        {day.target_date for store in stores for day in store.days if basis.includes(day)}
    )
    silent_rows = snapshot.silent_rows(shown.silent_days)
    return render(
        "stores.html",
        **_page(shown),
        stores=[
            _store_row(shown, store, dates, is_silent=snapshot.rows[store.store_id] in silent_rows)
            for store in stores
        ],
        silent=len(silent_rows.intersection(rows.visible)),
        silent_days=shown.silent_days,
        attention=len(rows.problems.intersection(rows.visible)),
        dates=dates,
        total=len(rows.visible),
        matching=len(rows.matching),
        first=first + 1,
        last=first + len(stores),
        page=page,
        pages=pages,
        orders=ORDERS,
    )


def _store_row(
    shown: PageBasis, store: StoreForecast, dates: Sequence[date], *, is_silent: bool
) -> dict[str, Any]:
    days = [day for day in store.days if shown.basis.includes(day)]
    by_date = {day.target_date: day for day in days}
    address = urlencode({"store_id": store.store_id, **shown.query.parameters()})
    return {
        "store_id": store.store_id,
        "address": f"/?{address}",
        "label": page_text.store_label(store),
        "days": [by_date.get(target_date) for target_date in dates],
        "total": _total(days),
        "state": page_text.store_state(store, shown.basis, shown.language, is_silent=is_silent),
    }


def store_page(
    shown: PageBasis,
    store: StoreForecast,
    items: ItemsShown,
    past_days: Sequence[ScoredDay],
    *,
    is_history_unread: bool = False,
) -> str:
    """One store: its coming days, its past days and a page of its items.

    `past_days` are those with a forecast. `is_history_unread`: some may be missing, because the
    bucket cannot be read now.
    """
    basis, language = shown.basis, shown.language
    coming_days = [day for day in store.days if basis.includes(day)]
    is_silent = shown.snapshot.rows[store.store_id] in shown.snapshot.silent_rows(shown.silent_days)
    today = basis.schedule.today(basis.now)
    past = list(past_days)
    plot_days = [
        *(
            PlotDay(day.target_date, day.predicted, day.lower, day.upper, day.actual)
            for day in past
        ),
        *(
            PlotDay(day.target_date, day.predicted, day.lower, day.upper, None)
            for day in coming_days
        ),
    ]
    first = today - PAST_DAYS * _DAY
    by_date = {day.target_date: day for day in past}
    plots = [plot(plot_days, first, today, language, size) for size in (WIDE, NARROW)]
    # The state of the store says how old its forecast is, so that the banner would say it twice.
    frame = {**_page(shown), "due": None}
    return render(
        "store.html",
        **frame,
        store=store,
        name=page_text.store_name(store),
        description=page_text.store_description(store, language),
        state=page_text.store_state(store, basis, language, is_silent=is_silent),
        closed_because=page_text.closed_because(store, language),
        made_at=(
            language.time(store.generated_at, basis.schedule.zone) if store.generated_at else None
        ),
        days=[(day, page_text.day_notes(day, language)) for day in coming_days],
        total=_total(coming_days),
        last_week=_sum([day.last_week for day in coming_days]),
        last_year=_sum([day.last_year for day in coming_days]),
        missing=sorted({name for day in coming_days for name in day.missing}),
        **_items(shown, store, items, coming_days),
        is_history_unread=is_history_unread,
        past_days=[
            (day, by_date.get(day))
            for day in (today - back * _DAY for back in range(1, PAST_DAYS + 1))
        ]
        if past
        else [],
        summary=summarise(past),
        plots=[drawn for drawn in plots if drawn is not None],
    )


def _items(
    shown: PageBasis, store: StoreForecast, items: ItemsShown, days: Sequence[ForecastDay]
) -> dict[str, Any]:
    page = items.items
    listed: Sequence[Item] = page.items if page is not None else ()
    first = (items.page - 1) * ITEMS_ON_A_PAGE

    def address(number: int) -> str:
        parameters = {
            "store_id": store.store_id,
            **({"item": items.search} if items.search else {}),
            "items": str(number),
            **shown.query.parameters(),
        }
        return f"/?{urlencode(parameters)}#items"

    pages = max(-(-items.matching // ITEMS_ON_A_PAGE), 1)
    return {
        "items": [
            (
                item.item_id,
                [_day_of(item, day.target_date) for day in days],
                _total([day for day in item.days if shown.basis.includes(day)]),
                (items.accuracy or {}).get(item.item_id),
            )
            for item in listed
        ],
        "has_item_accuracy": bool(items.accuracy),
        "items_unread": page is None,
        "items_total": page.total if page is not None else store.items,
        "items_search": items.search,
        "items_matching": items.matching,
        "items_first": first + 1,
        "items_last": first + len(listed),
        "items_page": items.page,
        "items_pages": pages,
        "items_before": address(items.page - 1) if items.page > 1 else None,
        "items_after": address(items.page + 1) if items.page < pages else None,
    }


def _day_of(item: Item, target_date: date) -> ForecastDay | None:
    return next((day for day in item.days if day.target_date == target_date), None)


def _total(days: Sequence[ForecastDay]) -> float | None:
    """The total of the days. None if one of them has no number."""
    return _sum([day.predicted for day in days])


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if values and len(known) == len(values) else None


def _page(shown: PageBasis) -> dict[str, Any]:
    """What every page with numbers has: its frame, its banner and its footer."""
    snapshot, basis, language = shown.snapshot, shown.basis, shown.language
    zone, as_of = basis.schedule.zone, snapshot.entry.as_of
    is_old = as_of < basis.schedule.expected_as_of(basis.now)
    return {
        **_frame(language, shown.query),
        "release": snapshot.name,
        "as_of": as_of,
        "published": language.time(snapshot.entry.published_at, zone),
        "zone": str(zone),
        "today": basis.schedule.today(basis.now),
        "unit": language.unit(basis.unit, basis.currency),
        "due": language.time(basis.schedule.due(as_of + _DAY), zone) if is_old else None,
        "unread_since": language.time(basis.unread_since, zone) if basis.unread_since else None,
        "csv_query": language.formats["csv"],
    }


def _frame(language: Language, query: ListQuery) -> dict[str, Any]:
    return {"lang": language.name, "language": language, "t": language.text, "query": query}
