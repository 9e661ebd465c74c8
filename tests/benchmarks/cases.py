"""The cases of the benchmark: their measurements, and the demands on them."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import command_cases, ingesting
from tests.benchmarks.steps import (
    FAST,
    RIVALS,
    Line,
    Medians,
    Plan,
    Step,
    limit,
    ours,
    plain_tasks,
    ratio,
    rival,
    value,
)

GB = 1e9
_DAILY = 15


@dataclass(frozen=True)
class Case:
    letter: str
    steps: Callable[[Plan], list[Step]]
    lines: Callable[[Plan, Medians], Iterator[Line]]


def _a_steps(plan: Plan) -> list[Step]:
    return [
        make(plan.data.stores(size), f"{size} stores")
        for size in plan.sizes
        for make in (limit, ours, plain_tasks)
    ]


def _a_lines(plan: Plan, medians: Medians) -> Iterator[Line]:
    for size in plan.sizes:
        best = value(medians, f"limit: {size} stores")
        run = value(medians, f"ours: {size} stores")
        if best is None or run is None:
            yield Line(f"(a) {size} stores", "not measured")
            continue
        yield Line(f"(a) {size} stores: the limit", f"{best:.1f} s")
        yield ratio(
            f"(a) {size} stores: the run, by processor time",
            value(medians, f"ours: {size} stores", "cpu_seconds"),
            value(medians, f"limit: {size} stores", "cpu_seconds"),
            "",
            lambda _: None,
        )
        if size < 100_000:
            over = run - best
            yield Line(
                f"(a) {size} stores: the run beyond the limit",
                f"{over:+.1f} s",
                "at most 5 s",
                over <= 5,
            )
        else:
            yield ratio(
                f"(a) {size} stores: the run", run, best, "at most 1.45 ×", lambda r: r <= 1.45
            )
        yield ratio(
            f"(a) {size} stores: the run against plain tasks",
            run,
            value(medians, f"plain tasks: {size} stores"),
            "",
            lambda _: None,
        )
    for form in ("ours", "plain tasks"):
        for key, kind in (("seconds", ""), ("cpu_seconds", ", by processor time")):
            holds = (lambda r: r <= 1.3) if (form, key) == ("ours", "seconds") else lambda _: None
            yield ratio(
                f"(a) each further store, {form} against the limit{kind}",
                _growth(plan, medians, form, key),
                _growth(plan, medians, "limit", key),
                "at most 1.3 ×" if (form, key) == ("ours", "seconds") else "",
                holds,
            )


def _growth(plan: Plan, medians: Medians, form: str, key: str) -> float | None:
    """What the largest size takes more than the smallest one; None if one was not measured."""
    small, large = (
        value(medians, f"{form}: {size} stores", key) for size in (plan.sizes[0], plan.sizes[-1])
    )
    return None if small is None or large is None or len(plan.sizes) == 1 else large - small


_B_DEMANDS = {
    ("joblib, pandas", 10_000): 7,
    ("joblib, numpy features", 10_000): 4,
    ("joblib, pandas", 100_000): 15,
    ("joblib, numpy features", 100_000): 10,
}


def _measured_stores(plan: Plan, name: str, size: int) -> int:
    return min(size, plan.rivals_up_to if name in FAST else min(plan.rivals_up_to, 1_000))


def _b_steps(plan: Plan) -> list[Step]:
    steps = []
    for size in plan.sizes:
        steps.append(ours(plan.data.stores(size), f"{size} stores"))
        for name in RIVALS:
            if _skipped(name) is None:
                stores = _measured_stores(plan, name, size)
                steps.append(rival(plan, name, stores, stores))
    return list(dict.fromkeys(steps))


def _skipped(name: str) -> str | None:
    """Why this machine cannot measure a rival; None if it can."""
    needs = {"PySpark applyInPandas": "pyspark", "Dask": "dask"}.get(name)
    if needs and importlib.util.find_spec(needs) is None:
        return f"{needs} is not installed (uv sync --group bench)"
    if needs == "pyspark" and shutil.which("java") is None:
        return "there is no java"
    return None


def _b_lines(plan: Plan, medians: Medians) -> Iterator[Line]:
    for size in plan.sizes:
        run = value(medians, f"ours: {size} stores")
        for name in RIVALS:
            reason = _skipped(name)
            if reason is not None:
                yield Line(f"(b) {size} stores: {name}", f"skipped: {reason}")
                continue
            stores = _measured_stores(plan, name, size)
            rival_seconds = value(medians, f"{name}: {stores} stores")
            scaled = "" if stores == size else f" ({stores} × {size // stores})"
            cpu = value(medians, f"{name}: {stores} stores", "cpu_seconds")
            yield ratio(
                f"(b) {size} stores: {name}{scaled}, by processor time",
                None if cpu is None else cpu * size / stores,
                value(medians, f"ours: {size} stores", "cpu_seconds"),
                "",
                lambda _: None,
            )
            demand = _B_DEMANDS.get((name, size))
            yield ratio(
                f"(b) {size} stores: {name}{scaled}",
                None if rival_seconds is None else rival_seconds * size / stores,
                run,
                "" if demand is None else f"at least {demand} ×",
                lambda r, demand=demand: None if demand is None else r >= demand,
            )


def _unequal(plan: Plan) -> Path:
    return plan.data.items(1000, plan.skew_items, 400, 1000 * plan.skew_items)


def _c_steps(plan: Plan) -> list[Step]:
    return [ours(_unequal(plan), "unequal", rounds=1)]


def _c_lines(plan: Plan, medians: Medians) -> Iterator[Line]:
    took = value(medians, "ours: unequal", "chunks_took")
    chunk_seconds = value(medians, "ours: unequal", "chunk_seconds")
    yield ratio(
        f"(c) 1,000 stores of {plan.skew_items} items, one of {1000 * plan.skew_items}: chunks"
        " against work ÷ cores",
        took,
        None if chunk_seconds is None else chunk_seconds / 2,
        "at most 1.15 ×",
        lambda r: r <= 1.15,
    )


def _sized(plan: Plan, times: int) -> Path:
    return plan.data.items(100, plan.items, 400, plan.items * times)


def _d_steps(plan: Plan) -> list[Step]:
    steps = [ours(_sized(plan, times), f"largest store {times} ×") for times in (1, 10, 100)]
    most = max(plan.sizes)
    return [*steps, ours(plan.data.daily(most, _DAILY), f"{most} stores + {_DAILY}", rounds=1)]


def _d_lines(plan: Plan, medians: Medians) -> Iterator[Line]:
    peaks = [
        value(medians, f"ours: largest store {times} ×", "worker_peak_bytes")
        for times in (1, 10, 100)
    ]
    yield ratio(
        "(d) a worker's peak memory, largest store 100 × against 1 ×",
        peaks[-1],
        peaks[0],
        "0.9 to 1.1 ×",
        lambda r: r <= 1.1,
    )
    if peaks[-1] is not None:
        yield Line(
            "(d) a worker's peak memory",
            f"{peaks[-1] / GB:.2f} GB",
            "under 1.5 GB",
            peaks[-1] < 1.5 * GB,
        )
    most = max(plan.sizes)
    driver = value(medians, f"ours: {most} stores + {_DAILY}", "driver_peak_bytes")
    if driver is not None:
        yield Line(
            f"(d) the driver's peak memory, {most} stores of {_DAILY + 1} files",
            f"{driver / GB:.2f} GB",
            "under 1.5 GB",
            driver < 1.5 * GB,
        )


def _e_steps(plan: Plan) -> list[Step]:
    fresh = [
        make(plan.data.stores(size), f"{size} stores")
        for size in plan.sizes
        for make in (limit, ours)
    ]
    daily = [
        make(plan.data.daily(size, _DAILY), f"{size} stores + {_DAILY}")
        for size in plan.daily_sizes
        for make in (limit, ours)
    ]
    return [*fresh, *daily]


def _e_lines(plan: Plan, medians: Medians) -> Iterator[Line]:
    for less, more in zip(plan.sizes, plan.sizes[1:], strict=False):
        yield ratio(
            f"(e) {more} stores against {less}",
            value(medians, f"ours: {more} stores"),
            value(medians, f"ours: {less} stores"),
            "at most 10.5 ×" if more == 10 * less and more >= 100_000 else "",
            lambda r, more=more: r <= 10.5 if more >= 100_000 else None,
        )
    for size in plan.daily_sizes:
        fresh, daily = f"{size} stores", f"{size} stores + {_DAILY}"
        both = [
            (value(medians, f"{module}: {daily}"), value(medians, f"{module}: {fresh}"))
            for module in ("ours", "limit")
        ]
        (run, plain), (slow, fast) = both
        if run is None or plain is None or slow is None or fast is None:
            yield Line(f"(e) {size} stores with {_DAILY} daily objects each", "not measured")
            continue
        yield Line(
            f"(e) {size} stores: {_DAILY} daily objects each cost",
            f"{run - plain:+.1f} s",
            f"at most what they cost the limit, {slow - fast:+.1f} s",
            run - plain <= slow - fast,
        )


def _f_steps(plan: Plan) -> list[Step]:
    number, most = min(10_000, max(plan.sizes)), max(plan.sizes)
    folder = plan.data.folder / "ingest"
    for stores in {number, most}:
        ingesting.prepare(folder, stores)

    def step(method: str, stores: int, rounds: int = 3) -> Step:
        command = ("-m", "tests.benchmarks.ingesting", method, str(folder), str(stores))
        return Step(f"ingest: {method}, {stores} stores", command, rounds)

    return [
        step("ours", number),
        step("duckdb", number),
        *([step("ours", most, 1)] if most != number else []),
        step("small files", most, 1),
    ]


def _f_lines(plan: Plan, medians: Medians) -> Iterator[Line]:
    number, most = min(10_000, max(plan.sizes)), max(plan.sizes)
    for by, key in (("", "seconds"), (", by processor time", "cpu_seconds")):
        yield ratio(
            f"(f) ingest of {number} stores against DuckDB's partitioned COPY{by}",
            value(medians, f"ingest: ours, {number} stores", key),
            value(medians, f"ingest: duckdb, {number} stores", key),
            "" if by else "at most 1.2 ×",
            lambda r, by=by: None if by else r <= 1.2,
        )
    size = value(medians, f"ingest: ours, {most} stores", "bytes")
    peak = value(medians, f"ingest: ours, {most} stores", "peak_bytes")
    if peak is not None and size is not None:
        yield Line(
            f"(f) ingest's peak memory, one CSV of {size / GB:.1f} GB",
            f"{peak / GB:.2f} GB",
            "under 1.5 GB",
            peak < 1.5 * GB,
        )
    small = value(medians, f"ingest: small files, {most} stores")
    if small is not None:
        yield Line(
            f"(f) {most} files of one row",
            f"{small:.0f} s",
            "100,000 within 180 s",
            small <= 180 if most >= 100_000 else None,
        )


def _g_steps(plan: Plan) -> list[Step]:
    size = _middle(plan)
    return [ours(plan.data.stores(size), f"{size} stores", horizon) for horizon in (1, 7)] + [
        limit(plan.data.stores(size), f"{size} stores", horizon) for horizon in (1, 7)
    ]


def _g_lines(plan: Plan, medians: Medians) -> Iterator[Line]:
    size = _middle(plan)
    for module in ("ours", "limit"):
        yield ratio(
            f"(g) {size} stores: seven days against one, {module}",
            value(medians, f"{module}: {size} stores, 7 days"),
            value(medians, f"{module}: {size} stores"),
            "at most 2 ×" if module == "ours" else "",
            lambda r, module=module: r <= 2 if module == "ours" else None,
        )


def _middle(plan: Plan) -> int:
    return sorted(plan.sizes)[len(plan.sizes) // 2]


ALL = (
    Case("a", _a_steps, _a_lines),
    Case("b", _b_steps, _b_lines),
    Case("c", _c_steps, _c_lines),
    Case("d", _d_steps, _d_lines),
    Case("e", _e_steps, _e_lines),
    Case("f", _f_steps, _f_lines),
    Case("g", _g_steps, _g_lines),
    Case("h", command_cases.rival_steps, command_cases.rival_lines),
    Case("i", command_cases.storage_steps, command_cases.storage_lines),
    Case("j", command_cases.request_steps, command_cases.request_lines),
)
