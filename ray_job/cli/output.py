"""Lines and tables on a terminal. They go to standard output, as JSON does."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from ray_job.bucket.receipts import Receipt
    from ray_job.ingest import IngestReport

_RUN_FIELDS = {
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
    "warnings",
    "seconds",
    "intervals",
    "model_version",
    "table_version",
}
_MOST_LISTED = 10
"""How many failures, or files that were left out, are printed one by one."""
_MOST_STORE_IDS = 3
_CONSOLE = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 240)


def print_line(line: str) -> None:
    _CONSOLE.print(line, markup=False)


def print_error_line(line: str) -> None:
    """A line for standard error, in the form of the command's errors."""
    sys.stderr.write(f"storecast: {line}\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Columns of numbers are aligned to the right, all others to the left."""
    table = Table(title=escape(title) or None, title_justify="left", box=None, pad_edge=False)
    lines = [list(row) for row in rows]
    for place, name in enumerate(columns):
        numbers = all(isinstance(row[place], int | float) for row in lines)
        table.add_column(escape(name), justify="right" if numbers and lines else "left")
    for row in lines:
        table.add_row(*(escape(cell(value)) for value in row))
    _CONSOLE.print(table)


def cell(value: object) -> str:
    """The text of a table's cell."""
    match value:
        case None:
            text = "–"
        case bool():
            text = "yes" if value else "no"
        case int():
            text = f"{value:,}"
        case float():
            text = "0" if value == 0 else f"{value:,.4f}" if abs(value) < 1 else f"{value:,.1f}"
        case datetime():
            text = f"{value:%a %-d %b %Y %H:%M %Z}"
        case date():
            text = f"{value:%a %-d %b %Y}"
        case _:
            text = str(value)
    return text


def counted(number: int, unit: str) -> str:
    """`1 file`, `2,000 files`."""
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def percent(fraction: float | None) -> str:
    """`7.6 %`"""
    return "–" if fraction is None else f"{100 * fraction:.1f} %"


def print_ingest(report: IngestReport) -> None:
    if report.files == 0:
        print_line("Nothing new in raw_data/.")
    else:
        files, rows = counted(report.files, "file"), counted(report.rows, "row")
        of_stores = f" of {counted(report.stores, 'store')}" if report.stores else ""
        print_line(f"Ingested {files}: {rows}{of_stores}.")
    print_warnings(report.warnings)


def print_warnings(warnings: Iterable[str]) -> None:
    for warning in warnings:
        print_line(f"  warning: {warning}")


def print_ingest_problems(report: IngestReport) -> None:
    """What an ingest before a run could not do, on standard error."""
    if report.not_compacted is not None:
        print_error_line(f"not compacted: {report.not_compacted}")
    if report.not_packed is not None:
        print_error_line(f"not packed: {report.not_packed}; the next runs read slower")
    for warning in report.warnings:
        print_error_line(f"warning: {warning}")
    for delivery in report.bad:
        print_error_line(delivery.reason)


def print_plan(as_of: date, chunks: Sequence[Mapping[str, Any]]) -> None:
    print_table(
        ("chunk", "stores", "items", "bytes", "rows", "memory", "done"),
        [
            (
                chunk["digest"][:12],
                _store_ids(chunk["stores"]),
                "all" if chunk["items"] is None else _item_range(chunk["items"]),
                chunk["bytes"],
                chunk["rows"],
                f"{chunk['memory_bytes'] / 2**20:,.0f} MiB",
                "yes" if chunk["done"] else "no",
            )
            for chunk in chunks
        ],
        title=f"As of {as_of:%A %-d %B %Y}: {counted(len(chunks), 'chunk')}",
    )


def run_document(receipt: Receipt) -> dict[str, Any]:
    """The JSON document of a run: the main fields of its receipt."""
    fields: dict[str, Any] = receipt.model_dump(mode="json", include=_RUN_FIELDS)
    return fields | {"stores": receipt.stores.model_dump()}


def print_run(receipt: Receipt) -> None:
    from ray_job.nightly.job_events import run_sentence

    print_line(run_sentence(receipt))
    if receipt.message:
        print_line(receipt.message)
    for failure in receipt.failures[:_MOST_LISTED]:
        last = failure.last_good_as_of
        forecast = f"its forecast as of {last} stays" if last else "it has no forecast"
        print_line(f"  {failure.store_id}: {failure.reason} ({failure.reason_code}); {forecast}")
    if len(receipt.failures) > _MOST_LISTED:
        print_line(f"  … and {len(receipt.failures) - _MOST_LISTED:,} more")
    for delivery in receipt.bad_deliveries[:_MOST_LISTED]:
        print_line(f"  not ingested: {delivery.reason}")
    if len(receipt.bad_deliveries) > _MOST_LISTED:
        print_line(f"  … and {len(receipt.bad_deliveries) - _MOST_LISTED:,} more files")
    _print_widths(receipt)
    print_warnings(receipt.warnings)
    print_warnings(receipt.drift.warnings if receipt.drift is not None else ())
    for gate in receipt.gates:
        if not gate.passed:
            print_line(f"  gate {gate.name}: {gate.message} (limit {gate.limit:g})")


def _print_widths(receipt: Receipt) -> None:
    """By how much the intervals are wider than they were calibrated, once a day was counted."""
    if receipt.intervals is None:
        return
    widths, days = receipt.intervals.widths, counted(receipt.intervals.counted, "scored day")
    for name, factors in (
        ("series", widths.series),
        ("small forecasts", widths.of_small),
        ("store totals", widths.totals),
    ):
        lower, upper = factors.at(1)
        if factors.lower:
            print_line(
                f"  intervals of {name}, one day ahead: × {lower:.2f} below and × {upper:.2f}"
                f" above, after {days}"
            )


def _store_ids(ids: Sequence[str]) -> str:
    named = ", ".join(ids[:_MOST_STORE_IDS])
    return named + (f", … ({len(ids)})" if len(ids) > _MOST_STORE_IDS else "")


def _item_range(items: Mapping[str, str | None]) -> str:
    return f"{items['first'] or 'first'} to before {items['end'] or 'the end'}"
