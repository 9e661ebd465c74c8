"""How answers look on a terminal. Tables go to standard output, like JSON would."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ray_job.bucket.receipts import Receipt

if TYPE_CHECKING:
    from ray_job.ingest import IngestReport

RUN_FIELDS = {
    "run_id",
    "release",
    "as_of",
    "published",
    "status",
    "exit_code",
    "message",
    "gates",
    "failures",
    "bad_deliveries",
    "seconds",
    "model_version",
    "table_version",
}
_FEW = 10
_CONSOLE = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 240)


def plain(report: IngestReport) -> dict[str, Any]:
    return asdict(report) | {"bad": [one.model_dump() for one in report.bad]}


def say(line: str) -> None:
    _CONSOLE.print(line, markup=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Numbers to the right, text to the left."""
    drawn = Table(title=escape(title) or None, title_justify="left", box=None, pad_edge=False)
    lines = [list(row) for row in rows]
    for place, name in enumerate(columns):
        numbers = all(isinstance(row[place], int | float) for row in lines)
        drawn.add_column(escape(name), justify="right" if numbers and lines else "left")
    for row in lines:
        drawn.add_row(*(escape(cell(value)) for value in row))
    _CONSOLE.print(drawn)


def cell(value: object) -> str:
    match value:
        case None:
            told = "–"
        case bool():
            told = "yes" if value else "no"
        case int():
            told = f"{value:,}"
        case float():
            told = "0" if value == 0 else f"{value:,.4f}" if abs(value) < 1 else f"{value:,.1f}"
        case datetime():
            told = f"{value:%a %-d %b %Y %H:%M %Z}"
        case date():
            told = f"{value:%a %-d %b %Y}"
        case _:
            told = str(value)
    return told


def tell_ingest(report: IngestReport) -> None:
    if report.files == 0:
        say("Nothing new in raw_data/.")
        return
    files, rows = counted(report.files, "file"), counted(report.rows, "row")
    of_stores = f" of {counted(report.stores, 'store')}" if report.stores else ""
    say(f"Brought in {files}: {rows}{of_stores}.")


def tell_plan(as_of: date, chunks: Sequence[Mapping[str, Any]]) -> None:
    table(
        ("chunk", "stores", "items", "bytes", "rows", "memory", "done"),
        [
            (
                chunk["digest"][:12],
                _stores(chunk["stores"]),
                "all" if chunk["items"] is None else _range(chunk["items"]),
                chunk["bytes"],
                chunk["rows"],
                f"{chunk['memory_bytes'] / 2**20:,.0f} MiB",
                "yes" if chunk["done"] else "no",
            )
            for chunk in chunks
        ],
        title=f"As of {as_of:%A %-d %B %Y}: {counted(len(chunks), 'chunk')}",
    )


def run_sentence(receipt: Receipt) -> str:
    """What became of a run, in one sentence."""
    stores = receipt.stores
    return (
        f"{_STATUS[receipt.status]} as of {receipt.as_of:%A %-d %B %Y}: {stores.expected:,} stores,"
        f" {stores.ok:,} ok, {stores.closed:,} closed, {stores.fallback:,} fallback,"
        f" {stores.failed:,} failed, {stores.no_data:,} without data;"
        f" {stores.carried:,} carried; {receipt.seconds:.1f} s."
    )


def tell_run(receipt: Receipt) -> None:
    say(run_sentence(receipt))
    if receipt.message:
        say(receipt.message)
    for failure in receipt.failures[:_FEW]:
        last = failure.last_good_as_of
        kept = f"its forecast as of {last} stays" if last else "it has no forecast"
        say(f"  {failure.store_id}: {failure.reason} ({failure.reason_code}); {kept}")
    if len(receipt.failures) > _FEW:
        say(f"  … and {len(receipt.failures) - _FEW:,} more")
    for bad in receipt.bad_deliveries[:_FEW]:
        say(f"  not brought in: {bad.reason}")
    if len(receipt.bad_deliveries) > _FEW:
        say(f"  … and {len(receipt.bad_deliveries) - _FEW:,} more files")
    for warning in receipt.drift.warnings if receipt.drift is not None else ():
        say(f"  look at this: {warning}")
    for gate in receipt.gates:
        if not gate.passed:
            say(f"  gate {gate.name}: {gate.message} (limit {gate.limit:g})")


_STATUS = {
    "published": "Published",
    "published_with_failures": "Published, with failures,",
    "unchanged": "Nothing changed",
    "held": "Held back",
    "refused": "Not published",
    "unpublished": "Made, not published,",
    "failed": "Failed",
}


def counted(number: int, unit: str) -> str:
    """`1 file`, `2,000 files`."""
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def _stores(ids: Sequence[str]) -> str:
    few = 3
    return ", ".join(ids[:few]) + (f", … ({len(ids)})" if len(ids) > few else "")


def _range(items: Mapping[str, str | None]) -> str:
    return f"{items['first'] or 'first'} to before {items['end'] or 'the end'}"
