"""What can be taken away in the middle of a night, and the phases of a night in which it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta

from ray_job.submit.rayjob import night_name
from tests.cluster import control_plane, machines, nightly_job, objects, processes
from tests.cluster.places import BUCKET
from tests.fake_gcs import FakeGcs, Fault
from tests.k8s.support.nights import YESTERDAY

PHASES = ("new", "head", "driver", "publishing")
AS_OF = YESTERDAY - timedelta(days=1)
"""The night that is struck: so that there is a next one."""
RAYJOB = night_name(AS_OF)


@dataclass(frozen=True)
class Chaos:
    """A fault by name. `strike` gets the fake storage, `mend` ends it after `seconds`.

    `phases`: those in which there is something to strike. `process`: the cluster's process that is
    away, if it is one.
    """

    name: str
    strike: Callable[[FakeGcs], None]
    mend: Callable[[], None] | None = None
    seconds: float = 0
    phases: tuple[str, ...] = PHASES
    process: str = ""


def _away(
    name: str, process: str, until: Callable[[], None] = lambda: None, seconds: float = 20
) -> Chaos:
    """A process of the cluster that is away for a while."""

    def mend() -> None:
        _machines().start_again(process)
        until()

    return Chaos(name, lambda _: _machines().stop(process), mend, seconds, process=process)


def _machines() -> machines.Machines:
    current = machines.current()
    if current is None:
        raise LookupError(machines.REASON)
    return current


def _killed(
    name: str, selector: str, namespace: str = "storecast", phases: tuple[str, ...] = PHASES
) -> Chaos:
    """Pods that end at once, as if their node had gone."""

    def strike(_: FakeGcs) -> None:
        doomed: set[str] = set()

        def find() -> set[str]:
            doomed.update(objects.names("pods", selector, namespace))
            return doomed

        processes.wait_until(30, f"pods {selector}", find)
        for pod in doomed:
            objects.kill(pod, namespace)

    return Chaos(name, strike, phases=phases)


def _storage_refuses(gcs: FakeGcs) -> None:
    gcs.faults.add(Fault("status", status=503, times=25))


FAULTS = (
    _killed("submitter", "app.kubernetes.io/component=submitter"),
    _killed("worker", "ray.io/node-type=worker", phases=PHASES[1:]),
    _killed("head", "ray.io/node-type=head", phases=PHASES[1:]),
    _killed("KubeRay's submitter", f"job-name={RAYJOB}", phases=PHASES[2:]),
    _killed("operator", "app.kubernetes.io/name=kuberay-operator", "kuberay"),
    _away("API server", "apiserver", control_plane.wait_for_api_server, seconds=60),
    _away("kubelet", "kubelet-node1", seconds=30),
    _away("controllers", "controllers"),
    _away("scheduler", "scheduler"),
    Chaos("storage", _storage_refuses),
)
"""Pods can be killed while there is an API server only: two at once strike in this order."""


def mend(chaoses: Iterable[Chaos]) -> None:
    """Bring back what is away, each after its time."""
    waited = 0.0
    for chaos in sorted(chaoses, key=lambda chaos: chaos.seconds):
        if chaos.mend is not None:
            time.sleep(chaos.seconds - waited)
            waited = chaos.seconds
            chaos.mend()


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
