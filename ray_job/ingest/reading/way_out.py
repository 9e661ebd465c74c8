"""The sentences that name the setting or the correction with which a value can be read."""

from __future__ import annotations

import re

from ray_job.ingest.reading.expressions import NOT_A_DATE, NOT_A_NUMBER, NOT_A_STORE
from ray_job.ingest.reading.groups import FileGroup
from ray_job.ingest.reading.header_hints import toml_text
from ray_job.ingest.reading.notation import date_formats, number_readings
from ray_job.ingest.reading.shapes import Column

_VALUE = re.compile(r'the column (.*?) has the value "(.*)", which (.*)', re.DOTALL)


def with_way_out(group: FileGroup, problem: str) -> str:
    """The problem of a row, and the settings with which its value can be read, if there are any."""
    match = _VALUE.fullmatch(problem)
    if match is None:
        return problem
    header, value, sentence = match.groups()
    section = f"under [{group.kind.name}] in the settings"
    hint = ""
    if sentence == NOT_A_STORE:
        hint = (
            ', or put store_ids = "encode" under [sales] in the settings, which makes a store id of'
            " any text"
        )
    elif sentence == NOT_A_DATE and (formats := date_formats(value)):
        lines = " or ".join(f'date_format = "{each}"' for each in formats)
        hint = f", or put {lines} {section}"
    elif sentence == NOT_A_NUMBER:
        hint = _number_hint(group, header, value, section)
    return problem + hint


def _number_hint(group: FileGroup, header: str, value: str, section: str) -> str:
    readings = number_readings(value)
    if readings:
        return f"; {_choice(value, readings)} {section}"
    column = next((each for each in group.columns if each.header == header), None)
    if column is None or column.name in group.kind.reserved + group.kind.flags:
        return ""
    return (
        f'; if the column is text, put types = {{ {toml_key(column.name)} = "text" }} {section} and'
        " run `storecast ingest` again, which also makes text of the numbers that are stored"
    )


def both_ways(group: FileGroup, column: Column, value: str) -> str:
    """The sentence for a column of a file in which every point reads in two ways, like `value`."""
    return (
        f'the column {column.header} has the value "{value}":'
        f" {_choice(value, number_readings(value))} under [{group.kind.name}] in the settings"
    )


def toml_key(name: str) -> str:
    """A column's name as a key in TOML."""
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else toml_text(name)


def _choice(value: str, readings: list[tuple[float, str]]) -> str:
    """`1.204 reads as 1.204 and as 1204: put decimal = "." or thousands = "."`."""
    numbers = " and as ".join(f"{number:.15g}" for number, _ in readings)
    lines = " or ".join(line for _, line in readings)
    return f"{value.strip()} reads as {numbers}: put {lines}"
