# ruff: noqa: INP001 - scripts beside those that call them
"""What the checks ask with, and what they answer."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Json = Any
Mark = Literal["pass", "fail", "open"]


@dataclass(frozen=True)
class Verdict:
    """`open`: nothing has happened yet that could show it. The reason says what to do."""

    mark: Mark
    reason: str


def passed(reason: str) -> Verdict:
    return Verdict("pass", reason)


def failed(reason: str) -> Verdict:
    return Verdict("fail", reason)


def not_seen(reason: str) -> Verdict:
    return Verdict("open", reason)


class UnansweredError(Exception):
    """A command ended with an error; the text has its last line."""


@dataclass(frozen=True)
class Page:
    """The answer to a request without following redirections."""

    status: int
    headers: Mapping[str, str]
    body: str


class Live:
    """The project and its cluster, as gcloud, kubectl and HTTP show them.

    `settings` has the names of settings.env, and CONTEXT, NAMESPACE, NUMBER (of the project),
    GRANTS (a line each: member, role, condition) and PRINCIPAL (how our members begin).
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.settings = settings
        self.probed: dict[str, Json] | None = None
        """What the pods of the accounts printed, once they have run."""

    def __getitem__(self, name: str) -> str:
        return self.settings[name]

    def run(self, command: list[str], given: str = "") -> str:
        """The output of a command. Raises UnansweredError for any other exit code than 0."""
        try:
            process = subprocess.run(  # noqa: S603 - our own commands
                command, input=given, capture_output=True, text=True, timeout=300, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UnansweredError(f"{command[0]}: {error}") from error
        if process.returncode:
            last = (process.stderr.strip().splitlines() or ["no message"])[-1]
            raise UnansweredError(f"{' '.join(command[:6])}…: {last}")
        return process.stdout

    def gcloud(self, *arguments: str) -> Json:
        command = ["gcloud", *arguments, f"--project={self['PROJECT']}", "--format=json"]
        return json.loads(self.run(command) or "null")

    def kubectl(self, *arguments: str, given: str = "") -> Json:
        return json.loads(self.run([*self.cluster, *arguments, "--output=json"], given))

    @property
    def cluster(self) -> list[str]:
        """kubectl for our cluster and namespace."""
        return ["kubectl", f"--context={self['CONTEXT']}", f"--namespace={self['NAMESPACE']}"]

    def gke(self) -> Json:
        """The cluster as GKE describes it."""
        region = f"--region={self['REGION']}"
        return self.gcloud("container", "clusters", "describe", self["CLUSTER"], region)

    def page(self, url: str, token: str = "") -> Page:
        """Raises UnansweredError where nothing answers."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - https only
        try:
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=20) as response:
                return Page(response.status, dict(response.headers), response.read().decode())
        except urllib.error.HTTPError as error:
            return Page(error.code, dict(error.headers), error.read().decode(errors="replace"))
        except OSError as error:
            raise UnansweredError(f"{url}: {error}") from error

    def address_of(self, domain: str) -> set[str]:
        try:
            return {str(entry[4][0]) for entry in socket.getaddrinfo(domain, 443)}
        except OSError:
            return set()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def value_of(resource: Json, path: str) -> Any:
    """The value at a path of names, None where there is none."""
    value = resource
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
