"""What is answered: rows of a snapshot and the moment of the question in, plain data out. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from api.items import ItemPage
from api.problems import ForecastExpiredError, NoDataError, NoForecastError, TooOldError
from api.snapshot import Day, StoreForecast
from ray_job.bucket.freshness import Schedule, judge

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class View:
    """From where a release is looked at.

    With `asked_as_of` the answer is what was said then: past days included, and fresh or stale as
    it was when that night's forecast was due. `unread_since` is set while the bucket cannot be
    read, so that a newer release may exist unseen.
    """

    release: str
    schedule: Schedule
    now: datetime
    asked_as_of: date | None = None
    unread_since: datetime | None = None

    @property
    def judged_at(self) -> datetime:
        return self.now if self.asked_as_of is None else self.schedule.due(self.asked_as_of)

    def shows(self, day: Day) -> bool:
        return self.asked_as_of is not None or day.target_date >= self.schedule.today(self.now)


def freshness(store: StoreForecast, view: View) -> dict[str, Any]:
    """How old the numbers are, and why: beside every number."""
    judged = judge(store.as_of, store.data_through, view.schedule, view.judged_at)
    return {
        "release": view.release,
        "as_of": store.as_of,
        "generated_at": store.generated_at,
        "data_through": store.data_through,
        "data_age_days": judged.data_age_days,
        "run_id": store.run_id,
        "model_version": store.model_version,
        "stale": judged.stale,
        "stale_reason": judged.reason,
        "carried_since": store.carried_since,
        "outcome": store.outcome,
        "reason_code": store.reason_code,
        "reason": store.reason,
        "asked_as_of": view.asked_as_of,
        "unread_since": view.unread_since,
    }


def total_day(day: Day) -> dict[str, Any]:
    return {**item_day(day), "missing": list(day.missing)}


def item_day(day: Day) -> dict[str, Any]:
    return {
        "target_date": day.target_date,
        "weekday": f"{day.target_date:%A}",
        "days_ahead": day.days_ahead,
        "predicted_sales": day.predicted,
        "lower_80": day.lower,
        "upper_80": day.upper,
        "method": day.method,
    }


def summary(store: StoreForecast, view: View) -> dict[str, Any]:
    """A store in a list: its totals by day, and no problem where there is no day to show."""
    return {
        "store_id": store.store_id,
        "description": store.description,
        **freshness(store, view),
        "days": [total_day(day) for day in store.days if view.shows(day)],
        "items_total": store.items,
    }


def forecast(
    store: StoreForecast,
    view: View,
    page: ItemPage,
    *,
    target_date: date | None = None,
    next_page_token: str | None = None,
) -> dict[str, Any]:
    """A store's forecast. Call `require` first."""

    def shown(day: Day) -> bool:
        return view.shows(day) and target_date in (None, day.target_date)

    return {
        "store_id": store.store_id,
        "description": store.description,
        **freshness(store, view),
        "days": [total_day(day) for day in store.days if shown(day)],
        "items": [
            {"item_id": item.item_id, "days": [item_day(day) for day in item.days if shown(day)]}
            for item in page.items
        ],
        "items_total": page.total,
        "next_page_token": next_page_token,
    }


def require(store: StoreForecast, view: View, max_age_days: int | None = None) -> None:
    """Raises the problem that stands for a forecast that may not be shown."""
    said = {
        name: value
        for name, value in freshness(store, view).items()
        if name in ("release", "as_of", "data_through", "outcome", "reason_code", "reason")
        if value is not None
    }
    if store.as_of is None and store.outcome == "no_data":
        raise NoDataError(
            f"nothing was ever delivered for store {store.store_id}",
            store_id=store.store_id,
            **said,
        )
    if store.as_of is None:
        raise NoForecastError(
            f"store {store.store_id} has no forecast: {store.reason or store.outcome}",
            store_id=store.store_id,
            **said,
        )
    if not any(view.shows(day) for day in store.days):
        last = store.last_target_date or max(
            (day.target_date for day in store.days), default=store.as_of
        )
        raise ForecastExpiredError(
            f"the last forecast of store {store.store_id} was made from sales through"
            f" {spoken(store.as_of)} and ended with {spoken(last)}",
            store_id=store.store_id,
            last_target_date=last,
            expired_since=last + _DAY,
            **said,
        )
    age = age_days(store, view)
    if max_age_days is not None and (age is None or age > max_age_days):
        raise TooOldError(
            f"the forecast of store {store.store_id} knows sales through"
            f" {spoken(store.data_through)}, {age} days short of what could be known",
            store_id=store.store_id,
            age_days=age,
            max_age_days=max_age_days,
            **said,
        )


def age_days(store: StoreForecast, view: View) -> int | None:
    """Days from data through to the as-of that should be live at the moment of the question."""
    if store.data_through is None:
        return None
    return max((view.schedule.expected_as_of(view.judged_at) - store.data_through).days, 0)


def spoken(day: date | None) -> str:
    return "an unknown day" if day is None else f"{day:%A %-d %B %Y}"
