"""What is under a cluster: processes, nodes and keys, as far as the tests reach them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol

from tests.cluster import nodes, processes
from tests.cluster.kind import RECORD, KindMachines
from tests.cluster.places import CONTEXT, HERE, STATE

REASON = "a cluster that is only given shows neither its processes nor its machines"
"""Why a test that takes them is skipped there."""


class Machines(Protocol):
    """`first` is the name of the node that stays, `second` that of one to be drained and lost.

    Processes have the names of our own cluster: apiserver, controllers, scheduler, kubelet-node1.
    """

    @property
    def first(self) -> str: ...

    @property
    def second(self) -> str: ...

    def stop(self, process: str) -> None:
        """Kill a process, which does not start again by itself."""

    def start_again(self, process: str) -> None: ...

    def add_second(self) -> None:
        """Pods may run on the second node, which is in a zone of its own."""

    def lose_second(self) -> None:
        """The second node goes away as a machine does: it says nothing more."""

    def remove_second(self) -> None:
        """End what is left of the second node, and forget it."""

    def import_image(self, archive: Path) -> None:
        """An image for pods of the first node, from an archive of podman's."""

    def accounts_key(self) -> bytes:
        """The private key, as PEM, that signs the tokens of service accounts."""

    def metrics_server(self) -> Path:
        """The manifest of a metrics-server that runs there."""


class OwnMachines:
    """Those of the cluster in our namespaces."""

    first = nodes.FIRST.name
    second = nodes.SECOND.name
    stop = staticmethod(processes.stop)
    start_again = staticmethod(processes.start_again)
    add_second = staticmethod(nodes.add_second)
    lose_second = staticmethod(nodes.lose_second)
    remove_second = staticmethod(nodes.remove_second)

    def import_image(self, archive: Path) -> None:
        nodes.import_image(nodes.FIRST, archive)

    def accounts_key(self) -> bytes:
        return (STATE / "pki" / "accounts.key").read_bytes()

    def metrics_server(self) -> Path:
        return HERE / "manifests" / "metrics-server.yaml"


def current() -> Machines | None:
    """Those of the cluster that the tests run on; None for a given one that is not kind's."""
    if not CONTEXT:
        return OwnMachines()
    if RECORD.exists():
        return KindMachines(**json.loads(RECORD.read_text()))
    return None
