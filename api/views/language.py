"""The language of a page: its texts, and how it writes numbers and dates. A language is one file.

`texts/<language>.toml` has the texts and formats. `[formats.<REGION>]` has what a region writes
otherwise.
"""

from __future__ import annotations

import re
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

_FOLDER = Path(__file__).parent / "texts"
LANGUAGES = tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))
DEFAULT = "en"
_MAX_TAGS = 20
_ISO_DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WHOLE = 100
"""Numbers from here on are written without decimals."""

Texts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Language:
    """`name` is the language of the page, as `de`."""

    name: str
    formats: Texts
    texts: Texts
    reasons: Texts
    problems: Texts

    def text(self, key: str, **values: Any) -> str:
        """A text with its values. `count` chooses between its two forms."""
        text = self.texts[key]
        if isinstance(text, list):
            text = text[0 if values["count"] == 1 else 1]
        shown = {
            name: self.number(value) if isinstance(value, int) else value
            for name, value in values.items()
        }
        return str(text.format(**shown))

    def number(self, value: float | None) -> str:
        """A number for people: without decimals from 100 on, else with one."""
        if value is None:
            return "–"
        is_whole = abs(value) >= _WHOLE or value == round(value)
        text = f"{value:,.0f}" if is_whole else f"{value:,.1f}"
        marks = {",": self.formats["thousands"], ".": self.formats["decimal"]}
        return "".join(marks.get(character, character) for character in text)

    def percent(self, fraction: float | None) -> str:
        if fraction is None:
            return "–"
        return str(self.formats["percent"].format(number=self.number(round(fraction * 100))))

    def long_date(self, day: date | None) -> str:
        return "–" if day is None else self._date("long_date", day)

    def short_date(self, day: date | None) -> str:
        return "–" if day is None else self._date("short_date", day)

    def tiny_date(self, day: date) -> str:
        return self._date("tiny_date", day)

    def plot_date(self, day: date) -> str:
        return self._date("plot_date", day)

    def delivered(self, value: Any) -> str:
        """A value that somebody delivered: dates and fractions as they are written here."""
        if isinstance(value, float):
            text = str(int(value)) if value.is_integer() else str(value)
            return text.replace(".", self.formats["decimal"])
        if isinstance(value, str) and _ISO_DAY.fullmatch(value):
            with suppress(ValueError):
                return self._date("plain_date", date.fromisoformat(value))
        return str(value)

    def weekday(self, day: date) -> str:
        return str(self.formats["weekdays"][day.weekday()])

    def weekday_short(self, day: date) -> str:
        return str(self.formats["weekdays_short"][day.weekday()])

    def time(self, moment: datetime, zone: ZoneInfo) -> str:
        """A moment as the local time of `zone`."""
        local = moment.astimezone(zone)
        date_text = self._date("long_date", local.date())
        return str(self.formats["time"].format(date=date_text, clock=f"{local:%H:%M}"))

    def reason(self, code: str | None, sentence: str | None) -> str:
        """The reason of a code in this language, else the sentence that the job gives."""
        return str(self.reasons.get(code or "") or sentence or "–")

    def unit(self, unit: str | None, currency: str | None) -> str:
        """`in pieces`, or a sentence for sales of which nobody said what they count."""
        named = unit or currency
        return self.text("unit_named", unit=named) if named else self.text("unit_none")

    def _date(self, key: str, day: date) -> str:
        formats = self.formats
        return str(
            formats[key].format(
                weekday=formats["weekdays"][day.weekday()],
                weekday_short=formats["weekdays_short"][day.weekday()],
                month=formats["months"][day.month - 1],
                month_short=formats["months_short"][day.month - 1],
                day=day.day,
                year=day.year,
            )
        )


@cache
def language(name: str, region: str = "") -> Language:
    """The language `name`, one of LANGUAGES, as it is written in a region."""
    content = tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    formats = {
        key: value for key, value in content["formats"].items() if not isinstance(value, dict)
    }
    own = content["formats"].get(region, {})
    return Language(
        name=name,
        formats=formats | own,
        texts=content["texts"],
        reasons=content["reasons"],
        problems=content["problems"],
    )


def choose(accept_language: str, setting: str | None = None) -> Language:
    """The language of the setting, else the one that the browser ranks highest of those there are.

    `accept_language` is the header (RFC 9110, 12.5.4).
    """
    tags = [setting] if setting else _ranked(accept_language)
    for tag in tags:
        name, _, rest = tag.replace("_", "-").partition("-")
        if name.lower() in LANGUAGES:
            region = next((part for part in rest.split("-") if len(part) == 2), "")  # noqa: PLR2004
            return language(name.lower(), region.upper() if region.isascii() else "")
    return language(DEFAULT)


def _ranked(accept_language: str) -> list[str]:
    """The tags of the header, the most wanted first. A tag of quality 0 is left out."""
    qualities: list[tuple[float, str]] = []
    for entry in accept_language.split(",")[:_MAX_TAGS]:
        tag, *parameters = (part.strip() for part in entry.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
        if tag and quality > 0:
            qualities.append((quality, tag))
    return [tag for _, tag in sorted(qualities, key=lambda pair: -pair[0])]
