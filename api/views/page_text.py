"""The sentences of the page for managers. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from api.store.snapshot import ForecastDay, StoreForecast
from api.views.forecasts import AnswerBasis, freshness_fields, last_target_date
from api.views.language import Language
from ray_job.bucket.reasons import Method, Outcome

_NOTED: dict[str, str] = {
    Method.CLOSED: "method_closed",
    Method.ENDED: "method_ended",
    Method.FALLBACK: "method_fallback",
    Method.RULE: "method_rule",
    Method.SIMILAR: "method_similar",
}
_WEATHER_KINDS = {
    "temperature": ("temp", "tmin", "tmax", "tavg"),
    "rain": ("rain", "precip", "prcp"),
}
"""Columns of weather by parts of their names. Others are named as they were delivered."""
_WITHOUT_SALES = (Method.CLOSED, Method.ENDED)


@dataclass(frozen=True, slots=True)
class StoreState:
    """Whether a store's numbers can be relied on.

    `tone` is `calm`, `quiet` or `warning`, `short` has a few words for a list, `text` is for the
    store's own page.
    """

    tone: str
    short: str
    text: str


def store_state(
    store: StoreForecast, basis: AnswerBasis, language: Language, *, is_silent: bool = False
) -> StoreState:
    """`is_silent`: the store has stopped sending sales."""
    name, values = _state(store, basis, language, is_silent=is_silent)
    tone = {"fresh": "calm", "closed": "quiet"}.get(name, "warning")
    text = language.text(f"state_{name}", **values)
    if name == "stale" and is_silent:
        text += " " + language.text("state_stale_silent", **values)
    if "as_of" in values:
        values["as_of"] = language.short_date(store.as_of)
    return StoreState(tone, language.text(f"state_{name}_short", **values), text)


def _state(
    store: StoreForecast, basis: AnswerBasis, language: Language, *, is_silent: bool
) -> tuple[str, dict[str, object]]:
    """The name of the state, and the values of its texts."""
    if store.as_of is None:
        reason = language.text("nothing_delivered")
        if store.reason or store.reason_code:
            reason = language.reason(store.reason_code, store.reason)
        return "never", {"reason": reason}
    values: dict[str, object] = {
        "as_of": language.long_date(store.as_of),
        "data_through": language.long_date(store.data_through),
        "cause": _cause(store, language),
    }
    days = [day for day in store.days if basis.includes(day)]
    if not days:
        return "expired", values | {"last": language.long_date(last_target_date(store))}
    values["count"] = (store.as_of - (store.data_through or store.as_of)).days
    is_stale = bool(freshness_fields(store, basis)["stale"])
    is_closed = store.outcome == Outcome.CLOSED or all(day.method in _WITHOUT_SALES for day in days)
    is_late = store.data_through is not None and store.data_through < store.as_of
    checks = (
        ("ended", not store.is_expected and not (is_closed and not is_stale)),
        ("stale", is_stale),
        ("silent", is_silent),
        ("closed", is_closed),
        ("late", is_late),
    )
    return next((name for name, holds in checks if holds), "fresh"), values


def _cause(store: StoreForecast, language: Language) -> str:
    """Why there is no newer forecast."""
    if store.outcome == Outcome.FAILED and store.reason:
        reason = language.reason(store.reason_code, store.reason)
        return language.text("cause_failed", reason=reason)
    return language.text("cause_none")


def closed_because(store: StoreForecast, language: Language) -> str | None:
    """Why weekdays are forecast as closed although nobody declared it. None if none are."""
    if store.reason_code != "closed_weekday":
        return None
    reason = language.reason(store.reason_code, store.reason)
    return language.text("taken_for_closed", reason=reason)


def day_notes(day: ForecastDay, language: Language) -> list[str]:
    """What is special about a day, and how its number was made if not by the model."""
    special = dict.fromkeys(_special(code, language) for code in day.special)
    return [*special, *_method_note(day, language)]


def _method_note(day: ForecastDay, language: Language) -> list[str]:
    if day.method in (None, Method.MODEL):
        return []
    key = _NOTED.get(str(day.method))
    return [language.text(key) if key else str(day.method).replace("_", " ")]


def _special(code: str, language: Language) -> str:
    """A code of the release, as `holiday`, `promo=12` or `weather_high:temp=8.3`, in words."""
    name, _, value = code.partition("=")
    kind, _, column = name.partition(":")
    if kind in ("weather_high", "weather_low"):
        return _weather(kind, column, value, language)
    key = f"special_{name}"
    text = language.text(key if key in language.texts else "special_other", name=_plain(name))
    if value.isdecimal():
        text += " " + language.text("special_items", count=int(value))
    return text


def _weather(kind: str, column: str, value: str, language: Language) -> str:
    try:
        difference = language.number(float(value))
    except ValueError:
        difference = value
    kinds = (name for name, parts in _WEATHER_KINDS.items() if any(p in column for p in parts))
    key = f"special_{next(kinds, 'weather')}_{kind.removeprefix('weather_')}"
    return language.text(key, value=difference, name=_plain(column))


def _plain(name: str) -> str:
    return name.replace("_", " ")


def store_name(store: StoreForecast) -> str:
    """The store's name. An empty text if it has none."""
    return str(store.description.get("name") or "")


def store_label(store: StoreForecast) -> str:
    """The store's name and region: for a list of stores."""
    texts = (store.description.get("name"), store.description.get("region"))
    return ", ".join(str(text) for text in texts if text)


def store_description(store: StoreForecast, language: Language) -> str:
    """All that was delivered about a store, as one line. Names of columns are the deliverer's."""
    region = language.text("region")
    return ", ".join(
        f"{region if name == 'region' else _plain(name)} {language.delivered(value)}"
        for name, value in store.description.items()
        if value and name != "name"
    )
