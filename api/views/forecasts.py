"""Forecasts as plain data, from rows of a snapshot and the moment of the request. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from api.problems import ForecastExpiredError, NoDataError, NoForecastError, TooOldError
from api.store.items import ItemPage
from api.store.snapshot import ForecastDay, Snapshot, StoreForecast
from api.store.state import ServedState
from ray_job.bucket.freshness import Schedule, judge

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class AnswerBasis:
    """The release and the moment on which an answer is based.

    With `asked_as_of` the answer is what was known on that night: it holds past days too, and is
    fresh or stale as it was at that night's deadline. `unread_since`: since then the bucket cannot
    be read, so that a newer release may exist.
    """

    release: str
    published_at: datetime
    schedule: Schedule
    now: datetime
    today: date
    unit: str | None = None
    currency: str | None = None
    asked_as_of: date | None = None
    unread_since: datetime | None = None

    @classmethod
    def of(
        cls,
        state: ServedState,
        snapshot: Snapshot,
        now: datetime,
        asked_as_of: date | None = None,
    ) -> AnswerBasis:
        return cls(
            snapshot.name,
            snapshot.entry.published_at,
            state.schedule,
            now,
            state.schedule.today(now),
            state.pointer.unit,
            state.pointer.currency,
            asked_as_of,
            state.unread_since,
        )

    @property
    def judged_at(self) -> datetime:
        """The moment at which the age of the forecast counts."""
        return self.now if self.asked_as_of is None else self.schedule.due(self.asked_as_of)

    def includes(self, day: ForecastDay) -> bool:
        """Whether the answer holds this day: past days only with `asked_as_of`."""
        return self.asked_as_of is not None or day.target_date >= self.today


def answer_fields(basis: AnswerBasis) -> dict[str, Any]:
    """What every number of an answer is based on."""
    return {
        "release": basis.release,
        "published_at": basis.published_at.astimezone(UTC),
        **schedule_fields(basis.schedule, basis.now),
        "unit": basis.unit,
        "currency": basis.currency,
        "unread_since": basis.unread_since,
    }


def schedule_fields(schedule: Schedule, now: datetime) -> dict[str, Any]:
    return {
        "today": schedule.today(now),
        "time_zone": schedule.zone.key,
        "deadline": f"{schedule.deadline:%H:%M}",
    }


def freshness_fields(store: StoreForecast, basis: AnswerBasis) -> dict[str, Any]:
    """How old the numbers are, and why. Every answer with numbers has these fields."""
    freshness = judge(store.as_of, store.data_through, basis.schedule, basis.judged_at)
    return {
        "release": basis.release,
        "as_of": store.as_of,
        "generated_at": store.generated_at,
        "data_through": store.data_through,
        "data_age_days": freshness.data_age_days,
        "run_id": store.run_id,
        "model_version": store.model_version,
        "stale": freshness.stale,
        "stale_reason": freshness.reason,
        "carried_since": store.carried_since,
        "outcome": store.outcome,
        "reason_code": store.reason_code,
        "reason": store.reason,
        "asked_as_of": basis.asked_as_of,
        "unread_since": basis.unread_since,
    }


def total_day(day: ForecastDay) -> dict[str, Any]:
    """A day of a whole store."""
    return {
        **item_day(day),
        "missing": list(day.missing),
        "last_year_sales": day.last_year,
        "special": list(day.special),
    }


def item_day(day: ForecastDay) -> dict[str, Any]:
    """A day of an item."""
    return {
        "target_date": day.target_date,
        "weekday": f"{day.target_date:%A}",
        "days_ahead": day.days_ahead,
        "predicted_sales": day.predicted,
        "lower_80": day.lower,
        "upper_80": day.upper,
        "method": day.method,
        "last_week_sales": day.last_week,
    }


def store_summary(store: StoreForecast, basis: AnswerBasis) -> dict[str, Any]:
    """A store in a list: its totals by day. A store without a forecast has no days."""
    return {
        "store_id": store.store_id,
        "description": store.description,
        **freshness_fields(store, basis),
        "days": [total_day(day) for day in store.days if basis.includes(day)],
        "items_total": store.items,
    }


def store_forecast(
    store: StoreForecast,
    basis: AnswerBasis,
    page: ItemPage,
    *,
    target_date: date | None = None,
    next_page_token: str | None = None,
) -> dict[str, Any]:
    """A store's totals and a page of its items. Call `check_showable` first."""

    def is_included(day: ForecastDay) -> bool:
        return basis.includes(day) and target_date in (None, day.target_date)

    return {
        "store_id": store.store_id,
        "description": store.description,
        **answer_fields(basis),
        **freshness_fields(store, basis),
        "days": [total_day(day) for day in store.days if is_included(day)],
        "items": [
            {
                "item_id": item.item_id,
                "days": [item_day(day) for day in item.days if is_included(day)],
            }
            for item in page.items
        ],
        "items_total": page.total,
        "next_page_token": next_page_token,
    }


def check_showable(
    store: StoreForecast, basis: AnswerBasis, max_age_days: int | None = None
) -> None:
    """Raise the problem that is the answer if there is no forecast to show.

    Raises NoDataError, NoForecastError, ForecastExpiredError or, for a forecast that is older than
    `max_age_days`, TooOldError.
    """
    if store.as_of is None and store.outcome == "no_data":
        raise NoDataError(
            f"nothing was ever delivered for store {store.store_id}",
            store_id=store.store_id,
            **_problem_members(store, basis),
        )
    if store.as_of is None:
        raise NoForecastError(
            f"store {store.store_id} has no forecast: {store.reason or store.outcome}",
            store_id=store.store_id,
            **_problem_members(store, basis),
        )
    if not any(basis.includes(day) for day in store.days):
        last = last_target_date(store) or store.as_of
        raise ForecastExpiredError(
            f"the last forecast of store {store.store_id} was made from sales through"
            f" {long_date(store.as_of)} and ended with {long_date(last)}",
            store_id=store.store_id,
            last_target_date=last,
            expired_since=last + _DAY,
            **_problem_members(store, basis),
        )
    age = age_days(store, basis)
    if max_age_days is not None and (age is None or age > max_age_days):
        raise TooOldError(
            f"the forecast of store {store.store_id} knows sales through"
            f" {long_date(store.data_through)}, {age} days short of what could be known",
            store_id=store.store_id,
            age_days=age,
            max_age_days=max_age_days,
            **_problem_members(store, basis),
        )


def _problem_members(store: StoreForecast, basis: AnswerBasis) -> dict[str, Any]:
    """What a problem of a store says of its forecast."""
    return {
        name: value
        for name, value in freshness_fields(store, basis).items()
        if name in ("release", "as_of", "data_through", "outcome", "reason_code", "reason")
        if value is not None
    }


def age_days(store: StoreForecast, basis: AnswerBasis) -> int | None:
    """Days from data through to the as-of that should be live. None without data."""
    if store.data_through is None:
        return None
    return max((basis.schedule.expected_as_of(basis.judged_at) - store.data_through).days, 0)


def last_target_date(store: StoreForecast) -> date | None:
    """The last day of the store's newest forecast. None if it never had one."""
    return store.last_target_date or max((day.target_date for day in store.days), default=None)


def long_date(day: date | None) -> str:
    return "an unknown day" if day is None else f"{day:%A %-d %B %Y}"
