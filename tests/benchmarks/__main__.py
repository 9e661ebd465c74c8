"""`python -m tests.benchmarks`: time and memory of the nightly run, beside its limit and rivals.

Every measurement is a process of its own. A table with ratios goes to standard output, all
measurements go to `results.json`. Each round runs every case once, and the table has medians, so
that a busy minute of the machine does not affect one case only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks import cases
from tests.benchmarks.data import Data
from tests.benchmarks.steps import Line, Plan, Step

FOLDER = Path(__file__).parent
Measurements = dict[str, list[dict[str, Any]]]
"""By step: for each round the figures that the process printed, or an error."""


@dataclass
class Report:
    """All measurements so far. They are written to a file, so that `--resume` can go on."""

    machine: str
    date: str
    rounds: int
    load_average: list[float] = field(default_factory=list)
    """Before each measurement, over a minute: what other processes do affects the figures."""
    lines: list[Line] = field(default_factory=list)
    measured: Measurements = field(default_factory=dict)

    @classmethod
    def begun(cls, options: argparse.Namespace) -> Report:
        report = cls(_machine(), datetime.now(UTC).date().isoformat(), options.rounds)
        if options.resume and options.out.exists():
            earlier = json.loads(options.out.read_text())
            if earlier["machine"] == report.machine:
                report.load_average = earlier["load_average"]
                report.measured = earlier["measured"]
        return report


def main() -> int:
    options = _options()
    plan = Plan(
        data=Data(options.data),
        sizes=tuple(sorted(options.stores)),
        items=options.items,
        skew_items=options.skew_items,
        rivals_up_to=options.rivals_up_to,
        daily_up_to=options.daily_up_to,
    )
    report = Report.begun(options)
    chosen = [case for case in cases.ALL if case.letter in options.cases]
    steps = {case.letter: case.steps(plan) for case in chosen}  # generates missing data
    if options.only_data:
        return 0
    for number in range(options.rounds):
        for step in dict.fromkeys(step for case in chosen for step in steps[case.letter]):
            times = report.measured.setdefault(step.name, [])
            good = [figures for figures in times if "error" not in figures]
            if len(good) <= number < step.rounds:
                report.load_average.append(round(os.getloadavg()[0], 1))
                report.measured[step.name] = [*good, _measure(step)]
                _write(report, plan, options.out)
    _write(report, plan, options.out)
    table = _table(report)
    print(table)  # noqa: T201
    if options.write:
        README.write_text(_spliced(README.read_text(), table))
    return 0 if all(line.holds is not False for line in report.lines) else 1


README = FOLDER / "README.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"


def _spliced(text: str, table: str) -> str:
    """The text with the table between its marks."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}{table}\n{END}{rest.partition(END)[2]}"


def _table(report: Report) -> str:
    """Markdown: machine, date and noise, and a row for each line."""
    spreads = [
        (max(seconds) - min(seconds)) / statistics.median(seconds)
        for times in report.measured.values()
        for seconds in [[figures["seconds"] for figures in times if "error" not in figures]]
        if len(seconds) > 1
    ]
    rounds = max((len(times) for times in report.measured.values()), default=0)
    noise = f"{statistics.median(spreads):.0%}" if spreads else "unknown"
    load = statistics.median(report.load_average) if report.load_average else 0.0
    summary = (
        f"{report.machine}; {report.date}; medians of up to {rounds} rounds, which lie"
        f" {noise} apart (median over the measurements); load average before each {load:.1f}"
        " (median)."
    )
    marks = {True: "holds", False: "**missed**", None: ""}
    rows = [
        f"| {line.subject} | {line.value} | {line.demand} | {marks[line.holds]} |"
        for line in report.lines
    ]
    return "\n".join([summary, "", "| | measured | demanded | |", "|---|---|---|---|", *rows])


def _measure(step: Step) -> dict[str, Any]:
    """The figures that one process prints, or the error because of which there are none."""
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {step.name}\n")
    try:
        process = subprocess.run(
            [sys.executable, *step.command],
            capture_output=True,
            text=True,
            timeout=step.timeout,
            check=True,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"took longer than {step.timeout:.0f} s"}
    except subprocess.CalledProcessError as error:
        return {"error": (error.stderr.strip().splitlines() or ["no reason given"])[-1]}
    figures: dict[str, Any] = json.loads(process.stdout.strip().splitlines()[-1])
    return figures


def _write(report: Report, plan: Plan, out: Path) -> None:
    medians = {name: _medians(times) for name, times in report.measured.items()}
    report.lines = [line for case in cases.ALL for line in case.lines(plan, medians)]
    out.write_text(json.dumps(asdict(report), indent=1) + "\n")


def _medians(times: list[dict[str, Any]]) -> dict[str, Any]:
    """The medians over the rounds without an error; an error if all rounds have one."""
    good = [figures for figures in times if "error" not in figures]
    if not good:
        return times[-1] if times else {"error": "not measured"}
    return {
        name: statistics.median(figures[name] for figures in good)
        for name, value in good[0].items()
        if isinstance(value, int | float)
    }


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--stores", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--cases", default="abcdefghij", help="letters, see README.md")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--items", type=int, default=200, help="of the stores of case d")
    parser.add_argument(
        "--skew-items",
        type=int,
        default=200,
        help="of the stores of case c; the big store has a thousand times as many",
    )
    parser.add_argument("--rivals-up-to", type=int, default=10_000, help="stores")
    parser.add_argument("--daily-up-to", type=int, default=10_000, help="stores of case e")
    parser.add_argument(
        "--only-data", action="store_true", help="generate missing data, measure nothing"
    )
    parser.add_argument(
        "--resume", action="store_true", help="keep the measurements of OUT, and go on"
    )
    parser.add_argument("--write", action="store_true", help="write the table to README.md")
    default = Path(tempfile.gettempdir(), "storecast-benchmarks")
    parser.add_argument(
        "--data", type=Path, default=default, help="folder of the data, kept for the next time"
    )
    parser.add_argument("--out", type=Path, default=FOLDER / "results.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
