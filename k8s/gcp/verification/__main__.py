# ruff: noqa: INP001, T201 - scripts beside those that call them
"""Runs every check and prints its mark and reason: k8s/gcp/verify calls it.

`--list` names the checks; `--only NAME` runs the one whose function has that name.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from k8s.gcp.verification import cluster, project, rights
from k8s.gcp.verification.answers import Live, UnansweredError, Verdict, failed

CHECKS: tuple[tuple[str, Callable[[Live], Verdict]], ...] = (
    ("The project belongs to an organisation", project.organisation),
    ("Quotas suffice for a night", project.quotas),
    ("The bucket's settings", project.bucket),
    ("The bucket's grants are those of setup", project.grants),
    ("Autopilot, private nodes and their way out", project.private_nodes),
    ("GKE maintains the cluster by day", project.maintenance),
    ("Workload Identity's pool", project.workload_pool),
    ("The version of the Ray operator", cluster.operator),
    ("Autopilot admits our pods as they are", cluster.admission),
    ("Spot", cluster.spot),
    ("Rights of each account in each prefix", rights.workload_identity),
    ("A lost create-only write is answered with 412", rights.create_only),
    ("Pods reach the API server", rights.api_server),
    ("The Ray operator reaches the head", cluster.head_reached),
    ("Name, address and certificate", project.certificate),
    ("Gateway", cluster.gateway),
    ("Identity-Aware Proxy", project.proxy),
    ("Whom Identity-Aware Proxy lets in", project.let_in),
    ("Managed Prometheus", project.managed_prometheus),
    ("Logs that alerts match", project.logs),
    ("Metrics of the logs", project.log_metrics),
    ("Alerts", project.alerts),
)


def verdict(live: Live, check: Callable[[Live], Verdict]) -> Verdict:
    """The check's verdict; what it cannot ask or read is a failure of that check alone."""
    try:
        return check(live)
    except UnansweredError as error:
        return failed(str(error))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        return failed(f"the answer was not understood: {error!r}")


def main(live: Live, only: str = "") -> int:
    marks = []
    for title, check in CHECKS:
        if only and check.__name__ != only:
            continue
        result = verdict(live, check)
        marks.append(result.mark)
        print(f"{result.mark}  {title}: {result.reason}", flush=True)
    if only:
        return 0 if marks == ["pass"] else 1
    print(
        f"\n{marks.count('pass')} pass, {marks.count('fail')} fail,"
        f" {marks.count('open')} open (not seen yet)."
    )
    return 0 if set(marks) == {"pass"} else 1


if __name__ == "__main__":
    if "--list" in sys.argv:
        print("\n".join(title for title, _ in CHECKS))
    else:
        sys.exit(main(Live(os.environ), sys.argv[2] if "--only" in sys.argv else ""))
