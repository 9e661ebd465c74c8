"""The state of the cluster: objects with resource versions, their changes, and logs."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Resource = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """The identity of an object. `kind` is the plural with its group, as in `rayjobs.ray.io`."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Change:
    version: int
    type: str
    place: Place
    object: Resource


class TakenError(Exception):
    """There is an object of that name already."""


class TooOldError(Exception):
    """Changes since that version are not kept any more."""


@dataclass
class ContainerLog:
    """A container's log. It can be followed until it is closed."""

    lines: list[str] = field(default_factory=list)
    closed: bool = False


class Objects:
    """All objects. Every method may be called from any thread, and returns copies."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._objects: dict[Place, Resource] = {}
        self._changes: list[Change] = []
        self._version = 100
        self._forgotten = 0
        self._logs: dict[str, ContainerLog] = {}

    @property
    def version(self) -> int:
        return self._version

    def create(self, place: Place, given: Resource) -> Resource:
        with self._changed:
            if place in self._objects:
                raise TakenError
            made = deepcopy(given)
            made["metadata"] = {
                "creationTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "uid": str(uuid.uuid4()),
                **made.get("metadata", {}),
                "name": place.name,
                "namespace": place.namespace,
            }
            return self._record("ADDED", place, made)

    def get(self, place: Place) -> Resource | None:
        with self._changed:
            return deepcopy(self._objects.get(place))

    def list(self, kind: str, namespace: str) -> list[Resource]:
        with self._changed:
            return [
                deepcopy(resource)
                for place, resource in sorted(
                    self._objects.items(), key=lambda entry: entry[0].name
                )
                if (place.kind, place.namespace) == (kind, namespace)
            ]

    def set_status(self, place: Place, status: Resource) -> None:
        with self._changed:
            resource = deepcopy(self._objects[place])
            resource["status"] = {**resource.get("status", {}), **status}
            self._record("MODIFIED", place, resource)

    def delete(self, place: Place) -> Resource | None:
        with self._changed:
            resource = self._objects.pop(place, None)
            if resource is not None:
                self._record("DELETED", place, resource)
            return resource

    def forget(self) -> None:
        """Forget all changes, so that watches from earlier versions are refused."""
        with self._changed:
            self._changes.clear()
            self._forgotten = self._version
            self._changed.notify_all()

    def changes(self, kind: str, namespace: str, since: int, seconds: float) -> Iterator[Change]:
        """Changes after version `since` as they happen, for so many seconds."""
        end = time.monotonic() + seconds
        while True:
            with self._changed:
                if since < self._forgotten:
                    raise TooOldError
                fresh = [change for change in self._changes if change.version > since]
                if not fresh:
                    left = end - time.monotonic()
                    if left <= 0:
                        return
                    self._changed.wait(left)
                    continue
            for change in fresh:
                since = change.version
                if (change.place.kind, change.place.namespace) == (kind, namespace):
                    yield change

    def write_log(self, pod: str, *lines: str, close: bool = False) -> None:
        with self._changed:
            log = self._logs.setdefault(pod, ContainerLog())
            log.lines.extend(lines)
            log.closed = log.closed or close
            self._changed.notify_all()

    def follow_log(self, pod: str) -> Iterator[str]:
        number = 0
        while True:
            with self._changed:
                log = self._logs.setdefault(pod, ContainerLog())
                if number >= len(log.lines):
                    if log.closed:
                        return
                    self._changed.wait(0.2)
                    continue
                fresh = log.lines[number:]
                number = len(log.lines)
            yield from fresh

    def _record(self, kind: str, place: Place, resource: Resource) -> Resource:
        self._version += 1
        resource["metadata"]["resourceVersion"] = str(self._version)
        if kind != "DELETED":
            self._objects[place] = resource
        self._changes.append(Change(self._version, kind, place, deepcopy(resource)))
        self._changed.notify_all()
        return deepcopy(resource)
