"""`python -m tests.benchmarks`: what the nightly run takes, against what it could and might take.

Every measurement is a process of its own. A table with ratios goes to standard output, everything
that was measured to `results.json`. Rounds go through all cases in turn, and medians count, so that
a busy minute of the machine does not fall on one case alone.
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
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks import cases
from tests.benchmarks.cases import Case, Line

FOLDER = Path(__file__).parent
Found = dict[str, list[dict[str, Any]]]


@dataclass
class Report:
    machine: str
    date: str
    rounds: int
    load_average: float
    lines: list[Line] = field(default_factory=list)
    measured: Found = field(default_factory=dict)


def main() -> int:
    options = _options()
    chosen = [case for case in cases.ALL if case.letter in options.cases]
    plan = cases.Plan(
        data=cases.Data(options.data),
        sizes=tuple(options.sizes),
        items=options.items,
        big_items=options.big_items,
        rivals_up_to=options.rivals_up_to,
    )
    report = Report(
        machine=_machine(),
        date=datetime.now(UTC).date().isoformat(),
        rounds=options.rounds,
        load_average=os.getloadavg()[0],
    )
    steps = {case.letter: case.steps(plan) for case in chosen}  # generates what is not there
    for number in range(options.rounds):
        for case in chosen:
            for step in steps[case.letter]:
                times = report.measured.setdefault(step.name, [])
                if len(times) <= number and len(times) < step.rounds:
                    times.append(_measure(step))
        _write(report, chosen, plan, options.out)
    for line in report.lines:
        held = {True: "ok  ", False: "FAIL", None: "    "}[line.holds]
        print(f"{held} {line.what:62} {line.value:>12}  {line.wanted}")  # noqa: T201
    return 0 if all(line.holds is not False for line in report.lines) else 1


def _measure(step: cases.Step) -> dict[str, Any]:
    """One process; an error is an answer: that it could not be measured, and why."""
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {step.name}\n")
    try:
        done = subprocess.run(
            [sys.executable, *step.command],
            capture_output=True,
            text=True,
            timeout=step.timeout,
            check=True,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"took longer than {step.timeout:.0f} s"}
    except subprocess.CalledProcessError as error:
        return {"error": (error.stderr.strip().splitlines() or ["no reason told"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _write(report: Report, chosen: list[Case], plan: cases.Plan, out: Path) -> None:
    medians = {name: _medians(times) for name, times in report.measured.items()}
    report.lines = list(_lines(chosen, plan, medians))
    out.write_text(json.dumps(asdict(report), indent=1) + "\n")


def _lines(
    chosen: list[Case], plan: cases.Plan, medians: dict[str, dict[str, Any]]
) -> Iterator[Line]:
    for case in chosen:
        yield from case.lines(plan, medians)


def _medians(times: list[dict[str, Any]]) -> dict[str, Any]:
    """Of what every good round measured; an error where none was good."""
    good = [one for one in times if "error" not in one]
    if not good:
        return times[-1] if times else {"error": "not measured"}
    return {
        name: statistics.median(one[name] for one in good)
        for name, value in good[0].items()
        if isinstance(value, int | float)
    }


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--cases", default="abcdefg", help="letters, see README.md")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--items", type=int, default=200, help="of the stores of cases c and d")
    parser.add_argument("--big-items", type=int, default=200_000, help="of the one big store")
    parser.add_argument("--rivals-up-to", type=int, default=10_000, help="stores")
    default = Path(tempfile.gettempdir(), "storecast-benchmarks")
    parser.add_argument("--data", type=Path, default=default, help="kept for the next time")
    parser.add_argument("--out", type=Path, default=FOLDER / "results.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
