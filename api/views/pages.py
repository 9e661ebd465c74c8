"""The page for managers as HTML. It has no script and loads nothing from another host."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from api.store.items import Item
from api.store.scores import ScoredDay
from api.store.snapshot import ForecastDay, Snapshot, StoreForecast
from api.views import page_text
from api.views.forecasts import AnswerBasis
from api.views.history import summarise
from api.views.plot import PlotDay, plot
from api.views.rendering import render

STORES_ON_A_PAGE = 50
_NOTES = {
    "model": "",
    "closed": "closed",
    "ended": "no longer sold",
    "fallback": "by a simple rule: too little history",
    "mixed": "partly by a simple rule",
}


def problem_page(title: str, detail: str) -> str:
    return render("problem.html", title=title, detail=detail)


def store_list_page(
    snapshot: Snapshot, basis: AnswerBasis, rows: Sequence[int], first: int, silent_days: int
) -> str:
    """`STORES_ON_A_PAGE` stores of `rows`, the rows of all stores that the caller may see.

    `first` is the position in `rows` with which the page begins.
    """
    stores = snapshot.forecasts_at(rows[first : first + STORES_ON_A_PAGE])
    dates = sorted(
        {day.target_date for store in stores for day in store.days if basis.includes(day)}
    )
    silent_rows = snapshot.silent_rows(silent_days)
    after = first + STORES_ON_A_PAGE
    return render(
        "stores.html",
        **_footer(snapshot, basis),
        stores=[
            _store_row(store, basis, dates, is_silent=snapshot.rows[store.store_id] in silent_rows)
            for store in stores
        ],
        silent=len(silent_rows.intersection(rows)),
        silent_days=silent_days,
        dates=dates,
        today=basis.schedule.today(basis.now),
        total=len(rows),
        before=max(first - STORES_ON_A_PAGE, 0) if first else None,
        after=after if after < len(rows) else None,
    )


def _store_row(
    store: StoreForecast, basis: AnswerBasis, dates: Sequence[date], *, is_silent: bool
) -> dict[str, Any]:
    by_date = {day.target_date: day for day in store.days if basis.includes(day)}
    return {
        "store_id": store.store_id,
        "label": page_text.store_label(store),
        "days": [by_date.get(target_date) for target_date in dates],
        "state": page_text.store_state(store, basis, is_silent=is_silent),
    }


def store_page(
    snapshot: Snapshot,
    basis: AnswerBasis,
    store: StoreForecast,
    items: Sequence[Item],
    past_days: Sequence[ScoredDay],
    silent_days: int,
    *,
    is_history_unread: bool = False,
) -> str:
    """One store: its coming days, its past days and the first of its items.

    `is_history_unread`: `past_days` may be incomplete, because the bucket cannot be read now.
    """
    coming_days = [day for day in store.days if basis.includes(day)]
    is_silent = snapshot.rows[store.store_id] in snapshot.silent_rows(silent_days)
    return render(
        "store.html",
        **_footer(snapshot, basis),
        store=store,
        description=page_text.store_description(store),
        state=page_text.store_state(store, basis, is_silent=is_silent),
        closed_because=page_text.closed_because(store),
        made_at=page_text.made_at(store, basis.schedule.zone),
        days=[(day, _NOTES.get(day.method or "", day.method)) for day in coming_days],
        has_notes=any(day.method != "model" for day in coming_days),
        missing=sorted({name for day in coming_days for name in day.missing}),
        items=[
            (item.item_id, [_day_of(item, day.target_date) for day in coming_days])
            for item in items
        ],
        past_days=past_days,
        is_history_unread=is_history_unread,
        summary=summarise(past_days),
        plot=plot(
            [
                PlotDay(day.target_date, day.predicted, day.lower, day.upper, day.actual)
                for day in past_days
            ]
            + [
                PlotDay(day.target_date, day.predicted, day.lower, day.upper, None)
                for day in coming_days
            ],
            basis.schedule.today(basis.now),
        ),
    )


def _day_of(item: Item, target_date: date) -> ForecastDay | None:
    return next((day for day in item.days if day.target_date == target_date), None)


def _footer(snapshot: Snapshot, basis: AnswerBasis) -> dict[str, Any]:
    zone = basis.schedule.zone
    return {
        "release": snapshot.name,
        "as_of": snapshot.entry.as_of,
        "published": page_text.local_time(snapshot.entry.published_at, zone),
        "zone": str(zone),
        "unread_since": (
            page_text.local_time(basis.unread_since, zone) if basis.unread_since else None
        ),
    }
