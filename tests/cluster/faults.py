"""What can be taken away in the middle of a night, and the phases of a night in which it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta

from ray_job.submit.rayjob import night_name
from tests.cluster import control_plane, nightly_job, objects, processes
from tests.cluster.places import BUCKET
from tests.fake_gcs import FakeGcs, Fault
from tests.k8s.support.nights import YESTERDAY

PHASES = ("new", "head", "driver", "publishing")
AS_OF = YESTERDAY - timedelta(days=1)
"""The night that is struck: so that there is a next one."""
RAYJOB = night_name(AS_OF)
AWAY_SECONDS = 20
"""How long a process of the cluster is away."""


@dataclass(frozen=True)
class Chaos:
    """A fault by name. `strike` gets the fake storage, `mend` ends it after AWAY_SECONDS."""

    name: str
    strike: Callable[[FakeGcs], None]
    mend: Callable[[], None] | None = None


def _away(name: str, process: str, until: Callable[[], None] = lambda: None) -> Chaos:
    """A process of the cluster that is away for a while."""

    def mend() -> None:
        processes.start_again(process)
        until()

    return Chaos(name, lambda _: processes.stop(process), mend)


def _kill_all(selector: str, namespace: str = "storecast") -> None:
    for name in objects.names("pods", selector, namespace):
        objects.delete("pod", name, "--grace-period=0", "--force", namespace=namespace)


def _storage_refuses(gcs: FakeGcs) -> None:
    gcs.faults.add(Fault("status", status=503, times=25))


FAULTS = (
    Chaos("submitter", lambda _: _kill_all("app.kubernetes.io/component=submitter")),
    Chaos("worker", lambda _: _kill_all("ray.io/node-type=worker")),
    Chaos("head", lambda _: _kill_all("ray.io/node-type=head")),
    Chaos("KubeRay's submitter", lambda _: _kill_all(f"job-name={RAYJOB}")),
    Chaos("operator", lambda _: _kill_all("app.kubernetes.io/name=kuberay-operator", "kuberay")),
    _away("API server", "apiserver", control_plane.wait_for_api_server),
    _away("kubelet", "kubelet-node1"),
    _away("controllers", "controllers"),
    _away("scheduler", "scheduler"),
    Chaos("storage", _storage_refuses),
)


def mend(chaoses: Iterable[Chaos]) -> None:
    """Bring back what is away, after a while."""
    mends = [chaos.mend for chaos in chaoses if chaos.mend is not None]
    if mends:
        time.sleep(AWAY_SECONDS)
    for end in mends:
        end()


def prepare(phase: str, gcs: FakeGcs) -> set[str]:
    """Make a phase long enough to be met: the pointer's move takes some seconds more.

    Returns the releases that there are.
    """
    if phase == "publishing":
        gcs.faults.add(Fault("stall", op="insert", key="results/current.json", seconds=5))
    return _releases(gcs)


def wait_for(phase: str, gcs: FakeGcs, before: set[str]) -> None:
    """Wait until the night is in a phase; "publishing" is between a release and its pointer."""
    if phase != "publishing":
        nightly_job.wait_for_phase(phase, rayjob=RAYJOB)
        return
    processes.wait_until(nightly_job.PATIENCE, "a release", lambda: _releases(gcs) - before, 0.05)


def _releases(gcs: FakeGcs) -> set[str]:
    return set(gcs.keys(BUCKET, "results/releases/"))
