"""The Kubernetes cluster: the few calls that `submit` makes, through the official client.

Every method may raise TransientError (nothing is known about the request: it may have landed) or
ClusterError (the API said no); each can be repeated.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import urllib3
from kubernetes import client, config, watch

from ray_job.bucket.errors import InputError, StorecastError, TransientError
from ray_job.submit.rayjob import MANAGED_BY, TEMPLATE, Resource

SCHEDULED_AT: Final = "batch.kubernetes.io/cronjob-scheduled-timestamp"
_NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_RAYJOBS: Final = {"group": "ray.io", "version": "v1", "plural": "rayjobs"}
_SUBMITTER: Final = "ray-job-submitter"
"""The container in which KubeRay follows the driver's log."""
_TOO_EARLY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GONE, HTTPStatus.TOO_MANY_REQUESTS)


class ClusterError(StorecastError):
    """The cluster refused, or a RayJob did not do what it was made for."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How patiently to wait, in seconds."""

    watch: float = 30
    """One watch at the most; after it the state is asked for, whatever the watch said."""
    retry: float = 5
    """Between tries while the API does not answer or hangs up."""
    patience: float = 600
    """How long the API may be silent."""
    heartbeat: float = 60
    """Between two signs of life."""


NIGHTLY: Final = Pace()


@dataclass(frozen=True, slots=True)
class Cluster:
    namespace: str
    rayjobs: Any
    batch: Any
    core: Any

    @classmethod
    def open(cls, namespace: str | None = None) -> Cluster:
        """The cluster of the pod's service account, else of KUBECONFIG.

        Raises InputError where there is neither.
        """
        configuration = client.Configuration()
        try:
            config.load_incluster_config(configuration)
            there = _NAMESPACE_FILE.read_text(encoding="utf-8").strip()
        except config.ConfigException:
            try:
                config.load_kube_config(client_configuration=configuration)
                _, active = config.list_kube_config_contexts()
            except config.ConfigException as error:
                raise InputError(f"no Kubernetes cluster is configured: {error}") from error
            there = active["context"].get("namespace", "default")
        configuration.retries = False
        api = client.ApiClient(configuration)
        return cls(
            namespace or there,
            client.CustomObjectsApi(api),
            client.BatchV1Api(api),
            client.CoreV1Api(api),
        )

    def scheduled_at(self, job: str) -> str | None:
        """When the CronJob's schedule wanted the Job `job`; None where no schedule made it."""
        with _told(f"Job {job}"):
            found = self.batch.read_namespaced_job(job, self.namespace, _request_timeout=30)
        annotations: dict[str, str] = found.metadata.annotations or {}
        return annotations.get(SCHEDULED_AT)

    def template(self) -> Resource:
        """The RayJob from which others are made. Raises InputError where it was never applied."""
        found = self.get(TEMPLATE)
        if found is None:
            raise InputError(
                f"namespace {self.namespace} has no RayJob {TEMPLATE}: apply k8s/ to it first"
            )
        return found

    def get(self, name: str) -> Resource | None:
        """The RayJob, None where there is none."""
        try:
            with _told(f"RayJob {name}"):
                found: Resource = self.rayjobs.get_namespaced_custom_object(
                    **_RAYJOBS, namespace=self.namespace, name=name, _request_timeout=30
                )
                return found
        except _MissingError:
            return None

    def create(self, rayjob: Resource) -> bool:
        """Create it, strictly: a field that the cluster does not know is an error.

        False where one of that name is there already, be it from an earlier try of this call.
        """
        name = rayjob["metadata"]["name"]
        try:
            with _told(f"RayJob {name}"):
                self.rayjobs.create_namespaced_custom_object(
                    **_RAYJOBS,
                    namespace=self.namespace,
                    body=rayjob,
                    field_validation="Strict",
                    field_manager="storecast-submit",
                    _request_timeout=30,
                )
        except _ThereAlreadyError:
            return False
        return True

    def mine(self) -> list[Resource]:
        """Every RayJob that `submit` made."""
        selector = ",".join(f"{key}={value}" for key, value in MANAGED_BY.items())
        with _told("RayJobs"):
            found = self.rayjobs.list_namespaced_custom_object(
                **_RAYJOBS, namespace=self.namespace, label_selector=selector, _request_timeout=30
            )
        items: list[Resource] = found["items"]
        return items

    def delete(self, name: str) -> None:
        """Delete a RayJob and, in the background, what it owns. Does nothing where it is gone."""
        try:
            with _told(f"RayJob {name}"):
                self.rayjobs.delete_namespaced_custom_object(
                    **_RAYJOBS,
                    namespace=self.namespace,
                    name=name,
                    propagation_policy="Background",
                    _request_timeout=30,
                )
        except _MissingError:
            return

    def states(
        self, name: str, pace: Pace, clock: Callable[[], float] = time.monotonic
    ) -> Iterator[Resource | None]:
        """The RayJob each time it changed and at least every `pace.watch` seconds; None: it's gone.

        Ends after None. Asks, then watches from there; a watch that breaks or is refused costs
        `pace.retry` seconds, so that polling is what remains. Raises TransientError once nothing
        was heard for `pace.patience` seconds.
        """
        heard = clock()
        while True:
            try:
                found = self.get(name)
                heard = clock()
                yield found
            except TransientError:
                if clock() - heard > pace.patience:
                    raise
                time.sleep(pace.retry)
                continue
            if found is None:
                return
            began = clock()
            with suppress(StorecastError):
                yield from self._changes(found, pace)
            if clock() - began < pace.retry:
                time.sleep(pace.retry)

    def _changes(self, rayjob: Resource, pace: Pace) -> Iterator[Resource | None]:
        name = rayjob["metadata"]["name"]
        with _told(f"RayJob {name}"):
            for event in watch.Watch().stream(
                self.rayjobs.list_namespaced_custom_object,
                **_RAYJOBS,
                namespace=self.namespace,
                field_selector=f"metadata.name={name}",
                resource_version=rayjob["metadata"]["resourceVersion"],
                timeout_seconds=max(1, round(pace.watch)),
                _request_timeout=(10, pace.watch + 15),
            ):
                yield None if event["type"] == "DELETED" else event["object"]

    def driver_log(self, name: str) -> LogStream | None:
        """What the driver of a RayJob writes; None where its submitter's pod is not there yet."""
        what = f"the log of RayJob {name}"
        with _told(what):
            pods = self.core.list_namespaced_pod(
                self.namespace, label_selector=f"job-name={name}", _request_timeout=30
            ).items
            running = [pod for pod in pods if pod.status.phase in {"Running", "Succeeded"}]
            if not running:
                return None
            newest = max(running, key=lambda pod: pod.metadata.creation_timestamp)
            response = self.core.read_namespaced_pod_log(
                newest.metadata.name,
                self.namespace,
                container=_SUBMITTER,
                follow=True,
                _preload_content=False,
                _request_timeout=(10, 300),
            )
            return LogStream(what, response)


@dataclass(frozen=True, slots=True)
class LogStream:
    """A log that is being followed, from its beginning to the end of the pod."""

    what: str
    response: Any

    def lines(self) -> Iterator[str]:
        try:
            with _told(self.what):
                for line in self.response:
                    yield line.decode(errors="replace").rstrip("\n")
        finally:
            self.response.close()
            self.response.release_conn()

    def hang_up(self) -> None:
        """End `lines`, from another thread."""
        with suppress(OSError, ValueError, RuntimeError):
            self.response.shutdown()


class _MissingError(ClusterError):
    pass


class _ThereAlreadyError(ClusterError):
    pass


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Tell the client's errors as ours."""
    try:
        yield
    except client.ApiException as error:
        raise _refusal(what, error) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise TransientError(f"{what}: the Kubernetes API does not answer: {error}") from error


def _refusal(what: str, error: Any) -> StorecastError:
    said = f"{what}: the Kubernetes API answered {error.status} {error.reason}"
    if error.status == HTTPStatus.NOT_FOUND:
        return _MissingError(said)
    if error.status == HTTPStatus.CONFLICT:
        return _ThereAlreadyError(said)
    if error.status in _TOO_EARLY or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return TransientError(said)
    if error.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY):
        return InputError(f"{said}: {_body(error)}")
    return ClusterError(f"{said}: {_body(error)}")


def _body(error: Any) -> str:
    """The sentence in the API's answer, which is a Status object unless a proxy made it."""
    text = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body
    try:
        return str(json.loads(text or "")["message"])
    except (ValueError, TypeError, KeyError):
        return " ".join((text or "").split())[:500]
