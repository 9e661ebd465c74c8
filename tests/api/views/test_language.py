"""Languages: their tables are whole, and numbers and dates are written as people there do."""

from __future__ import annotations

import re
import string
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from api.problems import KINDS_BY_SLUG
from api.views.language import LANGUAGES, choose, language
from ray_job.bucket.reasons import ReasonCode

TEMPLATES = Path(__file__).parents[3] / "api" / "views"


def fields_of(text: str | list[str]) -> set[str]:
    texts = text if isinstance(text, list) else [text]
    return {name for part in texts for _, name, _, _ in string.Formatter().parse(part) if name}


def test_every_language_has_every_text_with_the_same_values():
    english = language("en")
    for name in LANGUAGES:
        other = language(name)
        assert set(other.texts) == set(english.texts)
        assert set(other.formats) == set(english.formats)
        for key, text in english.texts.items():
            assert isinstance(other.texts[key], list) == isinstance(text, list), key
            assert fields_of(other.texts[key]) <= fields_of(text) | {"count"}, key
        assert set(other.problems) <= set(KINDS_BY_SLUG)
        assert set(other.reasons) in (set(), set(ReasonCode))


def test_every_text_is_used_and_every_text_that_is_used_exists():
    sources = "\n".join(
        path.read_text(encoding="utf-8")
        for path in (*TEMPLATES.glob("*.py"), *TEMPLATES.glob("templates/*.html"))
    )
    texts = set(language("en").texts)
    used = set(re.findall(r"""(?:\bt|\.text)\(\s*"(\w+)\"""", sources))
    assert used <= texts | {"order_"}
    computed = re.compile(r"(order|state|special|method|accuracy_(high|low))_?\w*")
    assert {key for key in texts - used if not computed.fullmatch(key)} == set()


@pytest.mark.parametrize(
    ("header", "setting", "expected"),
    [
        ("", None, ("1,234,568", "4.5", "Monday 23 Nov")),
        ("en-GB", None, ("1,234,568", "4.5", "Monday 23 Nov")),
        ("en-US,en;q=0.9", None, ("1,234,568", "4.5", "Monday, Nov 23")),
        ("de-DE,de;q=0.9,en;q=0.8", None, ("1.234.568", "4,5", "Montag, 23. Nov.")),
        ("fr-FR, de-AT;q=0.5", None, ("1.234.568", "4,5", "Montag, 23. Nov.")),
        ("de-CH", None, ("1’234’568", "4.5", "Montag, 23. Nov.")),
        ("en;q=0.1, de;q=0.2", None, ("1.234.568", "4,5", "Montag, 23. Nov.")),
        ("de;q=0, fr", None, ("1,234,568", "4.5", "Monday 23 Nov")),
        ("de;q=x;;,,-,*;q=1", None, ("1,234,568", "4.5", "Monday 23 Nov")),
        ("en-US", "de", ("1.234.568", "4,5", "Montag, 23. Nov.")),
    ],
)
def test_numbers_and_dates(header, setting, expected):
    chosen = choose(header, setting)
    shown = (chosen.number(1234567.8), chosen.number(4.5), chosen.short_date(date(2026, 11, 23)))
    assert shown == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (3.25, "3.2"), (99.95, "100.0"), (1234567.8, "1,234,568")],
)
def test_numbers_have_few_digits(value, text):
    assert language("en").number(value) == text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("de", "2021-05-25", "25. Mai 2021"),
        ("en", "2021-05-25", "25 May 2021"),
        ("de", 570.0, "570"),
        ("de", 570.25, "570,25"),
        ("de", 20210, "20210"),
        ("de", "2021-02-30", "2021-02-30"),
        ("de", "2021-05-25T00:00", "2021-05-25T00:00"),
        ("en", True, "True"),
    ],
)
def test_what_was_delivered_is_written_as_people_there_do(name, value, text):
    assert language(name).delivered(value) == text


def test_moments_are_local():
    moment = datetime(2026, 11, 23, 0, 5, tzinfo=UTC)
    shown = language("de").time(moment, ZoneInfo("Europe/Berlin"))
    assert shown == "Montag, 23. November 2026, 01:05 Uhr"
    assert language("de").text("state_silent_short", count=1) == "Seit 1 Tag keine Verkäufe"
    assert (
        language("de").text("state_silent_short", count=1200) == "Seit 1.200 Tagen keine Verkäufe"
    )
