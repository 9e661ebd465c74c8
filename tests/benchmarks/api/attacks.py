"""`python -m tests.benchmarks.api.attacks [NAME …]`: what is left of the service under each attack.

It prints a table: the slowest probe, the largest memory, and the p99 of another caller's requests
that are not cached, beside their p99 in the quiet before. Ends with exit code 1 where something
does not hold.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.api.fixtures.attacks import (
    ATTACKS,
    LARGEST_MEGABYTES,
    QUIET_SECONDS,
    SLOWER,
    SLOWEST_PROBE,
    Attack,
    Attacked,
    DearRequests,
    attacked_service,
    attacking,
    p99,
)

_REQUESTS = 200


def main() -> int:
    names = sys.argv[1:] or list(ATTACKS)
    hold = True
    print("| attack | slowest probe | memory | others' p99, quiet | attacked |")  # noqa: T201
    print("|---|---|---|---|---|")  # noqa: T201
    for name in names:
        with tempfile.TemporaryDirectory() as folder, attacked_service(Path(folder)) as attacked:
            row, holds = measure(attacked, ATTACKS[name])
        hold &= holds
        print(f"| {name} | {row} |{'' if holds else ' FAIL'}", flush=True)  # noqa: T201
    return 0 if hold else 1


def measure(attacked: Attacked, attack: Attack | DearRequests) -> tuple[str, bool]:
    """The columns of the table behind the name, and whether all of them hold."""
    # Each caller stays below the limit of requests.
    with attacked.other_caller("ben") as client:
        attacked.forecasts(client, 20, 1)
        quiet = p99(attacked.forecasts(client, _REQUESTS, 2))
    with attacked.other_caller("anna") as client:
        seconds, slowest, largest = [], 0.0, 0.0
        with attacking(attacked, attack):
            for _ in range(10):
                slowest = max(slowest, attacked.probe())
                largest = max(largest, attacked.megabytes)
                seconds += attacked.forecasts(client, _REQUESTS // 10, len(seconds) + 3)
    slow = p99(seconds)
    holds = (
        slowest < SLOWEST_PROBE
        and largest < LARGEST_MEGABYTES
        and slow < SLOWER * max(quiet, QUIET_SECONDS)
    )
    columns = (
        f"{slowest * 1000:.0f} ms",
        f"{largest:.0f} MB",
        f"{quiet * 1000:.1f} ms",
        f"{slow * 1000:.1f} ms",
    )
    return " | ".join(columns), holds


if __name__ == "__main__":
    raise SystemExit(main())
