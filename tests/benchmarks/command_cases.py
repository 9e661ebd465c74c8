"""The cases of whole processes: a night beside other tools, on a slow storage, and its requests."""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.commands.environments import find_uv
from tests.benchmarks.steps import Line, Medians, Plan, Step, ratio, value

GB = 1e9
LATENCY_MS = 30
SMALLEST = 1_000
_RIVALS = {"mlforecast": (1, 7), "polars": (1,)}
"""The days ahead that a rival is measured with. Polars' night has no second day."""
_SEVEN = 7
_LONG = {("polars", 100_000)}
"""What takes minutes is measured once."""


def _sizes(plan: Plan) -> list[int]:
    return sorted({SMALLEST, *plan.sizes})


def _whole(plan: Plan, tool: str, stores: int, days: int, *options: str, rounds: int = 3) -> Step:
    bucket = str(plan.data.stores(stores))
    command = ("-m", "tests.benchmarks.commands", tool, bucket, str(days), *options)
    return Step(_name(tool, stores, days, *options), command, rounds)


def _name(tool: str, stores: int, days: int, *options: str) -> str:
    return ", ".join((f"whole: {tool}, {stores} stores", f"{days} days", *options))


def rival_steps(plan: Plan) -> list[Step]:
    """Ours and the rivals as whole processes, in turn."""
    steps = []
    for size in _sizes(plan):
        for days in (1, _SEVEN):
            steps.append(_whole(plan, "storecast", size, days))
            steps += [
                _whole(plan, rival, size, days, rounds=1 if (rival, size) in _LONG else 3)
                for rival, horizons in _RIVALS.items()
                if days in horizons and find_uv() is not None
            ]
    return steps


def rival_lines(plan: Plan, medians: Medians) -> Iterator[Line]:
    for size in _sizes(plan):
        for days in (1, _SEVEN):
            ours = _name("storecast", size, days)
            yield _absolute(f"(h) {size} stores, {days} days: storecast run", medians, ours)
            for rival in (rival for rival, horizons in _RIVALS.items() if days in horizons):
                yield from _against(medians, rival, size, days)
    most = max(plan.sizes)
    peak = value(medians, _name("storecast", most, _SEVEN), "peak_bytes")
    if peak is not None:
        demand = "at most 2.1 GB" if most >= 100_000 else ""
        holds = peak <= 2.1 * GB if demand else None
        yield Line(f"(h) {most} stores: peak memory", f"{peak / GB:.2f} GB", demand, holds)
    yield ratio(
        f"(h) {most} stores, the run alone, one day, against mlforecast's whole process",
        value(medians, f"ours: {most} stores"),
        value(medians, _name("mlforecast", most, 1)),
        "at most 0.35 ×" if most >= 100_000 else "",
        lambda r: r <= 0.35 if most >= 100_000 else None,
    )
    for days, demanded in ((1, 0.15), (_SEVEN, 0.25)):
        small, large = (
            value(medians, _name("storecast", size, days), "cpu_seconds")
            for size in (plan.sizes[0], most)
        )
        if small is not None and large is not None and most > plan.sizes[0]:
            each = (large - small) / (most - plan.sizes[0]) * 1000
            yield Line(
                f"(h) each further store, {days} days: processor time of all processes",
                f"{each:.3f} ms",
                f"at most {demanded} ms",
                each <= demanded,
            )


_DEMANDED = {("mlforecast", 100_000, _SEVEN): 0.5, ("mlforecast", 10_000, _SEVEN): 1.4}


def _against(medians: Medians, rival: str, size: int, days: int) -> Iterator[Line]:
    subject = f"(h) {size} stores, {days} days: storecast run against {rival}"
    if find_uv() is None:
        yield Line(subject, "skipped: uv, which makes the rivals' environments, is not installed")
        return
    demanded = _DEMANDED.get((rival, size, days))
    yield ratio(
        subject,
        value(medians, _name("storecast", size, days)),
        value(medians, _name(rival, size, days)),
        "" if demanded is None else f"at most {demanded} ×",
        lambda r: None if demanded is None else r <= demanded,
    )
    yield _absolute(f"(h) {size} stores, {days} days: {rival}", medians, _name(rival, size, days))


def _absolute(subject: str, medians: Medians, name: str) -> Line:
    keys = ("seconds", "cpu_seconds", "peak_bytes")
    seconds, cpu, peak = (value(medians, name, key) for key in keys)
    if seconds is None or cpu is None or peak is None:
        return Line(subject, "not measured")
    return Line(subject, f"{seconds:.1f} s, {cpu:.1f} s of processors, {peak / GB:.1f} GB")


def storage_steps(plan: Plan) -> list[Step]:
    """The smallest size on disk and on a storage that takes 30 ms for each answer."""
    size = plan.sizes[0]
    latency = ("--latency-ms", str(LATENCY_MS))
    return [
        _whole(plan, "storecast", size, _SEVEN),
        _whole(plan, "storecast", size, _SEVEN, *latency),
    ]


def storage_lines(plan: Plan, medians: Medians) -> Iterator[Line]:
    size = plan.sizes[0]
    slow_name = _name("storecast", size, _SEVEN, "--latency-ms", str(LATENCY_MS))
    disk, slow = value(medians, _name("storecast", size, _SEVEN)), value(medians, slow_name)
    subject = f"(i) {size} stores: a storage with {LATENCY_MS} ms against the disk"
    if disk is None or slow is None:
        yield Line(subject, "not measured", "at most +3 s")
        return
    yield Line(subject, f"{slow - disk:+.1f} s", "at most +3 s", slow - disk <= 3)
    own = value(medians, slow_name, "storage_cpu_seconds")
    yield Line(f"(i) {size} stores: the fake storage's own processor time", f"{own:.1f} s")


def request_steps(plan: Plan) -> list[Step]:
    """A night after a delivery of one day of all stores, on a storage that counts."""
    options = ("--latency-ms", "0", "--delivery")
    return [_whole(plan, "storecast", size, _SEVEN, *options, rounds=1) for size in plan.sizes]


def request_lines(plan: Plan, medians: Medians) -> Iterator[Line]:
    for size in plan.sizes:
        name = _name("storecast", size, _SEVEN, "--latency-ms", "0", "--delivery")
        for prefix, part in (("ingest_", "ingest of a day"), ("", "the run after it")):
            reads, writes, dollars = (
                value(medians, name, f"{prefix}{key}") for key in ("reads", "writes", "dollars")
            )
            subject = f"(j) {size} stores: requests of {part}"
            if reads is None or writes is None or dollars is None:
                yield Line(subject, "not measured")
                continue
            limited = size >= 100_000 and not prefix
            yield Line(
                subject,
                f"{reads:,.0f} reads, {writes:,.0f} writes and listings, ${dollars:.3f}",
                "at most 3,000 reads" if limited else "",
                reads <= 3_000 if limited else None,
            )
