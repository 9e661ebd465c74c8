"""The events of a night's job, of ingest, run and packing, and the sentence of a run.

Log-based metrics and alerts read these fields by name (k8s/gcp/monitoring/).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ray_job.bucket.receipts import Receipt
from ray_job.events import emit

if TYPE_CHECKING:
    from ray_job.ingest import IngestReport, PackingReport

_STATUS_TEXTS = {
    "published": "Published",
    "published_with_failures": "Published, with failures,",
    "unchanged": "Nothing changed",
    "held": "Held back",
    "refused": "Not published",
    "unpublished": "Made, not published,",
    "failed": "Failed",
}


def ingest_fields(report: IngestReport) -> dict[str, Any]:
    """The report as a JSON object."""
    return asdict(report) | {"bad": [delivery.model_dump() for delivery in report.bad]}


def emit_ingest_finished(report: IngestReport) -> None:
    """ERROR if a file was left out, WARNING if something is missing or rows look odd, else INFO."""
    failures = (report.not_compacted, report.not_packed)
    severity = "WARNING" if any(failures) or report.warnings else "INFO"
    emit(
        "ingest_finished",
        severity="ERROR" if report.bad else severity,
        **ingest_fields(report),
    )


def emit_packing_finished(report: PackingReport) -> None:
    """WARNING if something failed, else INFO; nothing where every file has a pack already."""
    if report.files or report.failure:
        severity = "WARNING" if report.failure else "INFO"
        emit("packing_finished", severity=severity, **asdict(report))


def emit_run_finished(receipt: Receipt) -> None:
    emit(
        "run_finished",
        severity=run_severity(receipt),
        sentence=run_sentence(receipt),
        status=receipt.status,
        seconds=receipt.seconds,
        exit_code=receipt.exit_code,
        as_of=receipt.as_of.isoformat(),
        run_id=receipt.run_id,
        release=receipt.release,
        stores=receipt.stores.model_dump(),
        bad_deliveries=[delivery.reason for delivery in receipt.bad_deliveries],
        attention=receipt.warnings,
        late_share=receipt.stores.late / max(receipt.stores.expected, 1),
        **drift_fields(receipt),
    )


def run_sentence(receipt: Receipt) -> str:
    """What a run did, and its counts of stores, in one sentence."""
    stores = receipt.stores
    return (
        f"{_STATUS_TEXTS[receipt.status]} as of {receipt.as_of:%A %-d %B %Y}:"
        f" {stores.expected:,} stores,"
        f" {stores.ok:,} ok, {stores.closed:,} closed, {stores.fallback:,} fallback,"
        f" {stores.failed:,} failed, {stores.no_data:,} without data;"
        f" {stores.carried:,} carried; {receipt.seconds:.1f} s."
    )


def run_severity(receipt: Receipt) -> str:
    """ERROR for an exit code other than 0, WARNING if the receipt has a warning, else INFO."""
    if receipt.exit_code:
        return "ERROR"
    drift_warns = receipt.drift is not None and receipt.drift.warnings
    return "WARNING" if drift_warns or receipt.warnings else "INFO"


def drift_fields(receipt: Receipt) -> dict[str, Any]:
    """The figures of drift and cost, one level deep; empty if the receipt has no drift."""
    drift = receipt.drift
    if drift is None:
        return {}
    cost = receipt.cost
    return {
        "silent_stores": drift.silent,
        "silent_share": drift.silent_share,
        "carried_share": drift.carried_share,
        "fallback_share": drift.fallback_share,
        "missing_weather_share": drift.missing_weather_share,
        "forecast_to_usual": drift.total.ratio,
        "regions": {
            level.region: level.ratio for level in drift.regions if level.ratio is not None
        },
        "warnings": drift.warnings,
        "cpu_seconds": receipt.cpu_seconds,
        "cost_per_1000_stores": None if cost is None else cost.per_1000_stores,
    }
