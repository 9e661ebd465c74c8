"""The page for managers at `/`: their stores, the coming days, the last four weeks. Plain HTML.

It needs no script and no other host, and says nothing that the API does not say.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any

import jinja2
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api import answers, problems, words
from api.answers import View
from api.history import scored
from api.items import NO_ITEMS, Item
from api.plot import PlotDay, plot, shown
from api.problems import ProblemError
from api.question import Question, ask
from api.reply import reply
from api.scores import Scored, summarise
from api.snapshot import Day, Snapshot, StoreForecast

router = APIRouter(include_in_schema=False)

_HTML = "text/html; charset=utf-8"
_STORES_ON_A_PAGE = 50
_DAYS_BACK = 28
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
_FOLDER = Path(__file__).parent / "templates"
_METHODS = {
    "model": "",
    "closed": "closed",
    "fallback": "by a simple rule: too little history",
    "mixed": "partly by a simple rule",
}


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = shown
    environment.filters["short"] = words.short
    environment.filters["day"] = answers.spoken
    environment.filters["percent"] = words.percent
    return environment


_TEMPLATES = _environment()


@router.get("/")
async def get_page(
    request: Request,
    store_id: Annotated[str | None, Query(max_length=64)] = None,
    first: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> Response:
    """A store's page with `store_id`, else the list of stores; a single store needs no list."""
    try:
        question = await ask(request)
        snapshot = question.service.current(question.served)
        view = question.service.view(question.served, snapshot, question.now)
        store_id = (store_id or "").strip() or _only_store(question, snapshot)
        if store_id is None:
            html = _stores(question, snapshot, view, first)
        else:
            html = await _store(question, snapshot, view, store_id)
    except ProblemError as error:
        return _problem(error)
    return reply(
        question, html.encode(), _HTML, headers=_HEADERS, published_at=snapshot.entry.published_at
    )


@router.get("/page.css")
async def get_style() -> Response:
    return Response(
        (_FOLDER / "page.css").read_bytes(),
        headers={"Content-Type": "text/css; charset=utf-8", "Cache-Control": "max-age=3600"},
    )


def _only_store(question: Question, snapshot: Snapshot) -> str | None:
    rows = snapshot.seen_by(question.access)
    return snapshot.ids[rows[0]] if len(rows) == 1 else None


def _stores(question: Question, snapshot: Snapshot, view: View, first: int) -> str:
    rows = snapshot.seen_by(question.access)
    page = snapshot.at(rows[first : first + _STORES_ON_A_PAGE])
    today = view.schedule.today(view.now)
    dates = sorted({day.target_date for store in page for day in store.days if view.shows(day)})
    silent_days = question.served.pointer.silent_days
    silent = snapshot.silent_rows(silent_days)
    return _TEMPLATES.get_template("stores.html").render(
        **_common(view, snapshot),
        stores=[
            _listed(store, view, dates, is_silent=snapshot.rows[store.store_id] in silent)
            for store in page
        ],
        silent=len(silent.intersection(rows)),
        silent_days=silent_days,
        dates=dates,
        today=today,
        total=len(rows),
        first=first,
        before=max(first - _STORES_ON_A_PAGE, 0) if first else None,
        after=first + _STORES_ON_A_PAGE if first + _STORES_ON_A_PAGE < len(rows) else None,
    )


def _listed(
    store: StoreForecast, view: View, dates: list[date], *, is_silent: bool
) -> dict[str, Any]:
    by_day = {day.target_date: day for day in store.days if view.shows(day)}
    return {
        "store_id": store.store_id,
        "named": words.named(store),
        "days": [by_day.get(each) for each in dates],
        "state": words.state(store, view, is_silent=is_silent),
    }


async def _store(question: Question, snapshot: Snapshot, view: View, store_id: str) -> str:
    store = question.store(snapshot, store_id)
    past = await scored(question, store_id, _DAYS_BACK)
    coming = [day for day in store.days if view.shows(day)]
    items = _items(question, store)
    silent = snapshot.silent_rows(question.served.pointer.silent_days)
    return _TEMPLATES.get_template("store.html").render(
        **_common(view, snapshot),
        store=store,
        described=words.described(store),
        state=words.state(store, view, is_silent=snapshot.rows[store_id] in silent),
        made=words.made(store, view.schedule.zone),
        days=[(day, _METHODS.get(day.method or "", day.method)) for day in coming],
        notes=any(day.method != "model" for day in coming),
        missing=sorted({name for day in coming for name in day.missing}),
        items=[(item.item_id, [_on(item, day.target_date) for day in coming]) for item in items],
        past=past,
        summary=summarise(past),
        plot=plot(
            [_past(day) for day in past] + [_coming(day) for day in coming],
            view.schedule.today(view.now),
        ),
    )


def _items(question: Question, store: StoreForecast) -> tuple[Item, ...]:
    if not store.parts:
        return NO_ITEMS.items
    return question.service.items(store, 0, _STORES_ON_A_PAGE).items


def _on(item: Item, target_date: date) -> Day | None:
    return next((day for day in item.days if day.target_date == target_date), None)


def _common(view: View, snapshot: Snapshot) -> dict[str, Any]:
    zone = view.schedule.zone
    return {
        "release": snapshot.name,
        "as_of": snapshot.entry.as_of,
        "published": words.moment(snapshot.entry.published_at, zone),
        "zone": str(zone),
        "unread_since": words.moment(view.unread_since, zone) if view.unread_since else None,
    }


def _past(day: Scored) -> PlotDay:
    return PlotDay(day.target_date, day.predicted, day.lower, day.upper, day.actual)


def _coming(day: Day) -> PlotDay:
    return PlotDay(day.target_date, day.predicted, day.lower, day.upper, None)


def _problem(error: ProblemError) -> Response:
    kind = problems.kind_of(error)
    if kind is None:
        raise error
    html = _TEMPLATES.get_template("problem.html").render(title=kind.title, detail=str(error))
    headers = {**_HEADERS, **error.headers, "Content-Type": _HTML, "Cache-Control": "no-store"}
    return Response(html.encode(), kind.status, headers)
