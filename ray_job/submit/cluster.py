"""The Kubernetes cluster: the few calls that `submit` makes, through the official client.

Every method may raise TransientError (the request may have been carried out or not) or
ClusterError (the API refused it). Every method may be called again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from kubernetes import client, config, watch

from ray_job.bucket.errors import InputError, StorecastError, TransientError
from ray_job.submit.api_errors import ExistsError, MissingError, translated_errors
from ray_job.submit.rayjob import TEMPLATE, Resource

SCHEDULED_AT: Final = "batch.kubernetes.io/cronjob-scheduled-timestamp"
_NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_RAYJOBS: Final = {"group": "ray.io", "version": "v1", "plural": "rayjobs"}
_RAYCLUSTERS: Final = {**_RAYJOBS, "plural": "rayclusters"}
_SUBMITTER: Final = "ray-job-submitter"
"""The container in which KubeRay follows the driver's log."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to wait, in seconds."""

    watch: float = 30
    """The longest watch. After it the state is read anew."""
    retry: float = 5
    """Between two tries while the API does not answer or closes the connection."""
    patience: float = 600
    """How long the API may not answer."""
    heartbeat: float = 60
    """Between two events `submit_heartbeat`."""


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
            active_namespace = _NAMESPACE_FILE.read_text(encoding="utf-8").strip()
        except config.ConfigException:
            try:
                config.load_kube_config(client_configuration=configuration)
                _, active = config.list_kube_config_contexts()
            except config.ConfigException as error:
                raise InputError(f"no Kubernetes cluster is configured: {error}") from error
            active_namespace = active["context"].get("namespace", "default")
        configuration.retries = False
        api = client.ApiClient(configuration)
        return cls(
            namespace or active_namespace,
            client.CustomObjectsApi(api),
            client.BatchV1Api(api),
            client.CoreV1Api(api),
        )

    def scheduled_at(self, job: str) -> str | None:
        """The time for which a CronJob's schedule made the Job; None if no schedule made it."""
        with translated_errors(f"Job {job}"):
            resource = self.batch.read_namespaced_job(job, self.namespace, _request_timeout=30)
        annotations: dict[str, str] = resource.metadata.annotations or {}
        return annotations.get(SCHEDULED_AT)

    def template(self) -> Resource:
        """The RayJob from which others are made. Raises InputError if it was never applied."""
        resource = self.get(TEMPLATE)
        if resource is None:
            raise InputError(
                f"namespace {self.namespace} has no RayJob {TEMPLATE}: apply k8s/ to it first"
            )
        return resource

    def get(self, name: str) -> Resource | None:
        """The RayJob; None if there is none."""
        try:
            with translated_errors(f"RayJob {name}"):
                resource: Resource = self.rayjobs.get_namespaced_custom_object(
                    **_RAYJOBS, namespace=self.namespace, name=name, _request_timeout=30
                )
                return resource
        except MissingError:
            return None

    def create(self, rayjob: Resource) -> bool:
        """Create it. A field that the cluster does not know is an error.

        False if one of that name exists, which may be from an earlier try of this call.
        """
        name = rayjob["metadata"]["name"]
        try:
            with translated_errors(f"RayJob {name}"):
                self.rayjobs.create_namespaced_custom_object(
                    **_RAYJOBS,
                    namespace=self.namespace,
                    body=rayjob,
                    field_validation="Strict",
                    field_manager="storecast-submit",
                    _request_timeout=30,
                )
        except ExistsError:
            return False
        return True

    def all(self) -> list[Resource]:
        """Every RayJob of the namespace, whoever made it."""
        with translated_errors("RayJobs"):
            listing = self.rayjobs.list_namespaced_custom_object(
                **_RAYJOBS, namespace=self.namespace, _request_timeout=30
            )
        rayjobs: list[Resource] = listing["items"]
        return rayjobs

    def pods(self) -> list[Resource]:
        """Every pod of the namespace."""
        return self._items("pods", self.core.list_namespaced_pod)

    def warnings(self) -> list[Resource]:
        """The events of type Warning of the namespace. The cluster keeps them for an hour."""
        return self._items(
            "events", partial(self.core.list_namespaced_event, field_selector="type=Warning")
        )

    def _items(self, subject: str, call: Callable[..., Any]) -> list[Resource]:
        """The items of a listing as the API wrote them: the client's types refuse some of them."""
        with translated_errors(subject):
            response = call(self.namespace, _preload_content=False, _request_timeout=30)
            items: list[Resource] = json.loads(response.read())["items"]
        return items

    def delete(self, name: str) -> None:
        """Delete a RayJob and, in the background, what it owns. Does nothing if it is gone."""
        self._delete(f"RayJob {name}", {**_RAYJOBS, "name": name})

    def delete_ray_cluster(self, name: str) -> None:
        """Delete a RayCluster and, in the background, its pods. Does nothing if it is gone."""
        self._delete(f"RayCluster {name}", {**_RAYCLUSTERS, "name": name})

    def delete_job(self, name: str) -> None:
        """Delete a Job and, in the background, its pods. Does nothing if it is gone."""
        with suppress(MissingError), translated_errors(f"Job {name}"):
            self.batch.delete_namespaced_job(
                name,
                self.namespace,
                propagation_policy="Background",
                _preload_content=False,
                _request_timeout=30,
            ).read()

    def _delete(self, subject: str, place: dict[str, str]) -> None:
        with suppress(MissingError), translated_errors(subject):
            self.rayjobs.delete_namespaced_custom_object(
                **place,
                namespace=self.namespace,
                propagation_policy="Background",
                _request_timeout=30,
            )

    def states(
        self, name: str, pace: Pace, clock: Callable[[], float] = time.monotonic
    ) -> Iterator[Resource | None]:
        """The RayJob after each change, at least every `pace.watch` seconds. Ends after None.

        None: the RayJob is gone. The method reads the RayJob and then watches its changes. A watch
        that breaks or is refused costs `pace.retry` seconds, so that polling remains. Raises
        TransientError if the API did not answer for `pace.patience` seconds.
        """
        last_answer = clock()
        while True:
            try:
                resource = self.get(name)
                last_answer = clock()
                yield resource
            except TransientError:
                if clock() - last_answer > pace.patience:
                    raise
                time.sleep(pace.retry)
                continue
            if resource is None:
                return
            began = clock()
            with suppress(StorecastError):
                yield from self._changes(resource, pace)
            if clock() - began < pace.retry:
                time.sleep(pace.retry)

    def _changes(self, rayjob: Resource, pace: Pace) -> Iterator[Resource | None]:
        name = rayjob["metadata"]["name"]
        with translated_errors(f"RayJob {name}"):
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
        """What the driver of a RayJob writes; None if its submitter's pod does not run yet."""
        subject = f"the log of RayJob {name}"
        with translated_errors(subject):
            running = [
                pod
                for pod in self.pods()
                if (pod["metadata"].get("labels") or {}).get("job-name") == name
                and (pod.get("status") or {}).get("phase") in {"Running", "Succeeded"}
            ]
            if not running:
                return None
            newest = max(running, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
            response = self.core.read_namespaced_pod_log(
                newest["metadata"]["name"],
                self.namespace,
                container=_SUBMITTER,
                follow=True,
                _preload_content=False,
                _request_timeout=(10, 300),
            )
            return LogStream(subject, response)


@dataclass(frozen=True, slots=True)
class LogStream:
    """A log that is followed, from its beginning to the end of the pod."""

    subject: str
    response: Any

    def lines(self) -> Iterator[str]:
        try:
            with translated_errors(self.subject):
                for line in self.response:
                    yield line.decode(errors="replace").rstrip("\n")
        finally:
            self.response.close()
            self.response.release_conn()

    def close(self) -> None:
        """End `lines`, from another thread."""
        with suppress(OSError, ValueError, RuntimeError):
            self.response.shutdown()
