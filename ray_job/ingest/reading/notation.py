"""SQL of values as people write them: numbers, days, flags and ids."""

from __future__ import annotations

import re
from datetime import datetime

from ray_job.bucket.keys import STORE_ID_PATTERN
from ray_job.ingest.reading.workspace import quote_text
from ray_job.settings import Delivery

_GROUP_MARKS = {".": r"\.", ",": ",", " ": "[ \u00a0\u202f]", "'": "['’]"}
_YES = ("1", "1.0", "true", "t", "yes", "y", "j", "ja", "on", "wahr")
_NO = ("0", "0.0", "false", "f", "no", "n", "nein", "off", "falsch")
_OPEN, _CLOSED = ("open", "opened", "offen"), ("closed", "shut", "geschlossen", "zu")
_STOCKED = ("in stock", "instock", "in_stock", "available", "lieferbar")
_SOLD_OUT = ("out of stock", "outofstock", "out_of_stock", "sold out", "ausverkauft")
FLAG_TEXTS = {
    "open": (_YES + _OPEN, _NO + _CLOSED),
    "promo": (_YES, _NO),
    "in_stock": (_YES + _STOCKED, _NO + _SOLD_OUT),
    "closed_for_good": (_YES + _CLOSED, _NO + _OPEN),
}
"""The texts for 1 and for 0 in the columns that are flags."""
NUMBERS_TOO = ("promo", "in_stock")
"""The flags that may also be any number."""
_INSTANT = r":[0-9]{2}.*([A-Za-z_/]+|[+-][0-9:]{2,8})\s*$"
"""A time of day, and after it a zone or an offset from UTC."""
_DAY_LENGTH = 10
_TRUE, _FALSE = "1::DOUBLE", "0::DOUBLE"
"""In SQL `1.0` is a decimal number, which costs a conversion for each row."""


def number_pattern(decimal: str, thousands: str | None) -> str:
    """A regular expression of a whole number in this notation."""
    digits = "[0-9]+"
    if thousands is not None:
        digits = f"([0-9]{{1,3}}({_GROUP_MARKS[thousands]}[0-9]{{3}})+|[0-9]+)"
    mark = _GROUP_MARKS[decimal]
    return f"[+-]?({digits}({mark}[0-9]*)?|{mark}[0-9]+)([eE][+-]?[0-9]+)?"


def number_sql(text: str, delivery: Delivery) -> str:
    """SQL of a text as a number: `true` is 1, `false` is 0, NULL if it is not a number."""
    decimal, thousands = delivery.decimal_mark, delivery.thousands
    boolean = f"CASE lower({text}) WHEN 'true' THEN {_TRUE} WHEN 'false' THEN {_FALSE} END"
    if decimal == "." and thousands is None:
        number = f"try_cast({text} AS DOUBLE)"
    else:
        plain = f"trim({text})"
        if thousands is not None:
            plain = f"regexp_replace({plain}, {quote_text(_GROUP_MARKS[thousands])}, '', 'g')"
        if decimal == ",":
            plain = f"replace({plain}, ',', '.')"
        pattern = quote_text(number_pattern(decimal, thousands))
        number = (
            f"CASE WHEN regexp_full_match(trim({text}), {pattern})"
            f" THEN try_cast({plain} AS DOUBLE) END"
        )
    return f"coalesce({number}, {boolean})"


def dots_sql(text: str) -> str:
    """SQL of a text whose point reads both ways (`1.204`), empty for a text with another point.

    NULL for a text without a point.
    """
    # Most numbers have fewer than three decimals, which is cheaper to see.
    return (
        f"CASE WHEN contains({text}, '.') THEN CASE WHEN strlen({text}) - instr({text}, '.') < 3"
        rf" THEN '' WHEN regexp_full_match({text}, '\s*[+-]?[1-9][0-9]{{0,2}}(\.[0-9]{{3}})\s*')"
        f" THEN {text} ELSE '' END END"
    )


def flag_sql(text: str, name: str, delivery: Delivery) -> str:
    """SQL of the text of a flag as 1 or 0, NULL for any other text.

    `promo` and `in_stock` may be any number.
    """
    # A pattern, since DuckDB (2.0) spends time on the texts of an IN for rows that are 1 or 0, too.
    yes, no = (quote_text("|".join(map(re.escape, texts))) for texts in FLAG_TEXTS[name])
    number = number_sql(text, delivery)
    rest = number if name in NUMBERS_TOO else f"CASE WHEN {number} IN (0, 1) THEN {number} END"
    return (
        f"CASE WHEN {text} = '1' THEN {_TRUE} WHEN {text} = '0' THEN {_FALSE}"
        f" WHEN regexp_full_match(lower(trim({text})), {yes}) THEN {_TRUE}"
        f" WHEN regexp_full_match(lower(trim({text})), {no}) THEN {_FALSE} ELSE {rest} END"
    )


def id_sql(raw: str, *, is_number: bool) -> str:
    """SQL of an id as text. A whole number that is written as a float loses its decimals."""
    if is_number:
        number = f"CAST({raw} AS DOUBLE)"
        return (
            f"CASE WHEN isnan({number}) THEN NULL"
            f" WHEN {number} = trunc({number}) AND abs({number}) < 1e15"
            f" THEN CAST(CAST({number} AS BIGINT) AS VARCHAR) ELSE CAST({raw} AS VARCHAR) END"
        )
    text = f"CAST({raw} AS VARCHAR)"
    return (
        f"CASE WHEN suffix({text}, '.0') AND regexp_full_match({text}, '[0-9]+\\.0')"
        f" THEN left({text}, -2) ELSE {text} END"
    )


def encoded_id_sql(text: str) -> str:
    """SQL of a store id for any text: the text itself if it is one, else letters and a digest.

    `Köln Mitte/2` → `Koln-Mitte-2-<8 hex digits of the text's SHA-256>`.
    """
    plain = f"trim({text})"
    letters = f"left(regexp_replace(strip_accents({plain}), '[^A-Za-z0-9]+', '-', 'g'), 48)"
    return (
        f"CASE WHEN regexp_full_match({plain}, '{STORE_ID_PATTERN}') THEN {plain}"
        f" WHEN {plain} = '' THEN ''"
        f" ELSE {letters} || '-' || left(sha256({plain}), 8) END"
    )


def day_sql(text: str, delivery: Delivery) -> str:
    """SQL of a text as a day, NULL if it is none. An instant is a day of DuckDB's time zone."""
    if delivery.date_format is not None:
        return f"CAST({_formatted(text, delivery.date_format)} AS DATE)"
    # DuckDB reads words such as `epoch` as dates.
    return (
        f"CASE WHEN strlen({text}) <= {_DAY_LENGTH} AND {text} >= '0' AND {text} < ':'"
        f" THEN try_cast({text} AS DATE)"
        f" WHEN regexp_matches({text}, '{_INSTANT}')"
        f" THEN CAST(try_cast({text} AS TIMESTAMPTZ) AS DATE)"
        f" WHEN ascii(ltrim({text})) BETWEEN 48 AND 57 THEN try_cast({text} AS DATE) END"
    )


def moment_sql(text: str, delivery: Delivery) -> str:
    """SQL of the instant of a text in microseconds, NULL for a day or for midnight."""
    if delivery.date_format is not None:
        return moment_of(_formatted(text, delivery.date_format))
    return (
        f"CASE WHEN strlen({text}) > {_DAY_LENGTH} THEN CASE"
        f" WHEN regexp_matches({text}, '{_INSTANT}')"
        f" THEN {moment_of(f'try_cast({text} AS TIMESTAMPTZ)')}"
        f" ELSE {moment_of(f'try_cast({text} AS TIMESTAMP)')} END END"
    )


def moment_of(time: str) -> str:
    """SQL of a time in microseconds since 1970, NULL for midnight."""
    local = f"CAST(CAST({time} AS TIMESTAMP) AS TIME)"
    return f"CASE WHEN {local} <> TIME '00:00' THEN epoch_us({time}) END"


def _formatted(text: str, date_format: str) -> str:
    return f"try_strptime(trim({text}), {quote_text(date_format)})"


def number_readings(text: str) -> list[tuple[float, str]]:
    """The readings of a text as a number, each with the line of settings that decides for it."""
    plain = text.strip()
    readings: list[tuple[float, str]] = []
    for decimal, thousands in ((".", None), (",", None), *_GROUPED):
        if not re.fullmatch(number_pattern(decimal, thousands), plain):
            continue
        digits = re.sub(_GROUP_MARKS[thousands], "", plain) if thousands else plain
        number = float(digits.replace(",", "."))
        line = f'decimal = "{decimal}"'
        if thousands is not None and digits != plain:
            line = f'thousands = "{thousands}"'
            if decimal in plain:
                line += f', decimal = "{decimal}"'
        elif thousands is not None:
            continue
        if number not in [known for known, _ in readings]:
            readings.append((number, line))
    return readings


_GROUPED = ((",", "."), (".", ","), (",", " "), (".", " "), (",", "'"), (".", "'"))
_FORMATS = (
    (r"\d{1,2}\.\d{1,2}\.\d{4}", ("%d.%m.%Y",)),
    (r"\d{1,2}\.\d{1,2}\.\d{2}", ("%d.%m.%y",)),
    (r"\d{1,2}/\d{1,2}/\d{4}", ("%d/%m/%Y", "%m/%d/%Y")),
    (r"\d{1,2}/\d{1,2}/\d{2}", ("%d/%m/%y", "%m/%d/%y")),
    (r"\d{1,2}-\d{1,2}-\d{4}", ("%d-%m-%Y", "%m-%d-%Y")),
    (r"\d{1,2}-[A-Za-z]{3}-\d{4}", ("%d-%b-%Y",)),
    (r"\d{1,2} [A-Za-z]{3} \d{4}", ("%d %b %Y",)),
    (r"\d{4}\.\d{1,2}\.\d{1,2}", ("%Y.%m.%d",)),
    (r"\d{8}", ("%Y%m%d",)),
)
_TIMES = ((r"", ""), (r" \d{1,2}:\d{2}", " %H:%M"), (r" \d{1,2}:\d{2}:\d{2}", " %H:%M:%S"))


def date_formats(text: str) -> list[str]:
    """The values of date_format with which a text reads as a day."""
    plain = text.strip()
    formats = []
    for pattern, dates in _FORMATS:
        for time_pattern, time in _TIMES:
            if re.fullmatch(pattern + time_pattern, plain):
                formats += [date + time for date in dates if _is_read(plain, date + time)]
    return formats


def _is_read(text: str, date_format: str) -> bool:
    try:
        datetime.strptime(text, date_format)  # noqa: DTZ007 - a day, whatever the time zone
    except ValueError:
        return False
    return True
