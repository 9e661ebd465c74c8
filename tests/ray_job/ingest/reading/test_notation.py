"""Numbers, days, flags and ids as people write them."""

from datetime import date, timedelta

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_job.ingest.reading.notation import (
    date_formats,
    day_sql,
    encoded_id_sql,
    flag_sql,
    id_sql,
    moment_sql,
    number_readings,
    number_sql,
)
from ray_job.settings import Delivery

NOTATIONS = [(d, t) for d in ".," for t in (None, ".", ",", " ", "'") if d != t]


@pytest.fixture(scope="module")
def sql():
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'America/New_York'")

    def value(expression, text):
        return connection.execute(
            f"SELECT {expression} FROM (SELECT ?::VARCHAR AS x)",  # noqa: S608 - our own SQL
            [text],
        ).fetchone()[0]

    yield value
    connection.close()


def written(cents, decimal, thousands):
    whole, rest = divmod(abs(cents), 100)
    digits = f"{whole:,}".replace(",", thousands or "")
    return f"{'-' if cents < 0 else ''}{digits}{decimal}{rest:02d}"


@given(st.integers(-(10**13), 10**13), st.sampled_from(NOTATIONS))
def test_a_number_reads_back_equal_in_every_notation(sql, cents, notation):
    decimal, thousands = notation
    delivery = Delivery(decimal=decimal, thousands=thousands)
    assert sql(number_sql("x", delivery), written(cents, decimal, thousands)) == cents / 100


@given(st.integers(1, 10**12), st.sampled_from(NOTATIONS), st.sampled_from(NOTATIONS))
def test_no_notation_reads_another_number_than_the_readings_say(sql, cents, wrote, reads):
    text = written(cents, *wrote)
    number = sql(number_sql("x", Delivery(decimal=reads[0], thousands=reads[1])), text)
    assert number is None or number in [each for each, _ in number_readings(text)]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1.204", {1.204, 1204}),
        ("1,204", {1.204, 1204}),
        ("-12.345", {-12.345, -12345}),
        ("1.204.500", {1204500}),
        ("1.204,5", {1204.5}),
        ("1,204.5", {1204.5}),
        ("1 204,5", {1204.5}),
        ("1\u00a0204", {1204}),
        ("1'204.50", {1204.5}),
        ("120,5", {120.5}),
        ("12.5", {12.5}),
        ("12 €", set()),
        ("1.20.4", set()),
    ],
)
def test_all_readings_of_a_text(text, numbers):
    assert {number for number, _ in number_readings(text)} == numbers


@pytest.mark.parametrize("text", ["1.2.3", "12,34,5", "1.2345", "", "-", ",", "12.34.567", "1 2"])
def test_what_is_no_number_with_groups_of_three(sql, text):
    assert sql(number_sql("x", Delivery(decimal=",", thousands=".")), text) is None


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2026-03-01", date(2026, 3, 1)),
        ("2026-03-01 02:30:00", date(2026, 3, 1)),
        ("2026-03-01T03:30:00Z", date(2026, 2, 28)),
        ("2026-03-01 05:30:00 UTC", date(2026, 3, 1)),
        ("2026-03-01T00:30:00+09:00", date(2026, 2, 28)),
        ("2026-03-01T23:30:00-0800", date(2026, 3, 2)),
        ("2026-02-28 23:30:00.250-05", date(2026, 2, 28)),
        ("2026-03-01 04:00:00 Asia/Tokyo", date(2026, 2, 28)),
        ("2026-02-30", None),
        ("epoch", None),
        ("infinity", None),
        ("today", None),
        ("20260301", None),
        ("01.03.2026", None),
        ("2026-03-01 26:00", None),
        ("2026-03-01T03:30:00Q", None),
    ],
)
def test_days_and_instants(sql, text, day):
    assert sql(day_sql("x", Delivery()), text) == day


@given(
    st.dates(date(1930, 1, 1), date(2100, 12, 31)),
    st.sampled_from(["%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y%m%d", "%d-%b-%Y", "%Y/%m/%d %H:%M"]),
)
def test_a_day_reads_back_equal_in_its_format(sql, day, date_format):
    text = day.strftime(date_format)
    assert sql(day_sql("x", Delivery(date_format=date_format)), text) == day


def test_a_format_with_an_offset_gives_the_local_day(sql):
    delivery = Delivery(date_format="%d.%m.%Y %H:%M %z")
    assert sql(day_sql("x", delivery), "02.03.2026 03:00 +0000") == date(2026, 3, 1)


def test_dates_of_a_file_without_a_year_are_no_format():
    with pytest.raises(ValueError, match="does not name a day"):
        Delivery(date_format="%d.%m.")


@pytest.mark.parametrize(
    ("text", "formats"),
    [
        ("31.12.2026", ["%d.%m.%Y"]),
        ("01/02/2026", ["%d/%m/%Y", "%m/%d/%Y"]),
        ("12/31/2026", ["%m/%d/%Y"]),
        ("31/12/2026", ["%d/%m/%Y"]),
        ("20261231", ["%Y%m%d"]),
        ("12345678", []),
        ("31.12.2026 08:15", ["%d.%m.%Y %H:%M"]),
        ("last Tuesday", []),
    ],
)
def test_formats_of_a_date(text, formats):
    assert date_formats(text) == formats


@given(st.integers(0, 86_399), st.sampled_from(["", "Z", "+05:30"]))
def test_a_moment_tells_times_of_a_day_apart(sql, second, zone):
    def text(of_day):
        return f"2026-07-01T{timedelta(seconds=of_day)!s:0>8}{zone}"

    here, next_ = (sql(moment_sql("x", Delivery()), text(s % 86_400)) for s in (second, second + 1))
    assert here != next_


@pytest.mark.parametrize(
    ("name", "true_texts", "false_texts"),
    [
        (
            "open",
            "1 1.0 t T true Yes y J ja open Offen on",
            "0 0.0 f FALSE no N nein closed zu off",
        ),
        ("promo", "1 true Y ja", "0 false n Nein"),
        ("closed_for_good", "1 Y true closed Geschlossen", "0 N false open nein"),
    ],
)
def test_flags(sql, name, true_texts, false_texts):
    flag = flag_sql("x", name, Delivery())
    assert {sql(flag, text) for text in true_texts.split()} == {1.0}
    assert {sql(flag, f" {text} ") for text in false_texts.split()} == {0.0}
    assert sql(flag, "maybe") is None
    assert sql(flag, "2") == (2.0 if name == "promo" else None)


@pytest.mark.parametrize(
    ("text", "stored"),
    [("17.0", "17"), ("007.0", "007"), ("17", "17"), ("1.50", "1.50"), ("a.0", "a.0"), ("", "")],
)
def test_ids_of_text(sql, text, stored):
    assert sql(id_sql("x", is_number=False), text) == stored


@pytest.mark.parametrize(("number", "stored"), [("17", "17"), ("17.5", "17.5"), ("nan", None)])
def test_ids_of_floats(sql, number, stored):
    assert sql(id_sql("CAST(x AS DOUBLE)", is_number=True), number) == stored


@given(st.text(min_size=1, max_size=90))
def test_an_encoded_id_is_a_store_id_and_ids_stay(sql, text):
    encoded = sql(encoded_id_sql("x"), text.replace("\0", ""))
    assert encoded == "" or (
        len(encoded) <= 64
        and set(encoded)
        <= set("-_" + "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
    )
    assert sql(encoded_id_sql("x"), encoded) == encoded


def test_encoded_ids_can_be_recognised(sql):
    assert sql(encoded_id_sql("x"), "Köln Mitte/2").startswith("Koln-Mitte-2-")
    assert sql(encoded_id_sql("x"), "17") == "17"
    assert len({sql(encoded_id_sql("x"), text) for text in ("a b", "a/b", "a.b", "a-b")}) == 4
