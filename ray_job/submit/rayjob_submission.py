"""One submission: its RayJob is created or found, followed to its end, and its receipt read."""

from __future__ import annotations

import secrets
import string
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import partial

from ray_job.bucket import receipts
from ray_job.bucket.errors import InputError, StorageError, StorecastError, TransientError
from ray_job.bucket.receipts import Receipt
from ray_job.bucket.storage import Storage
from ray_job.events import emit
from ray_job.submit import attempts, pod_problems, rayjob
from ray_job.submit.api_errors import ClusterError
from ray_job.submit.cluster import Cluster, Pace
from ray_job.submit.driver_log import DriverLog
from ray_job.submit.outcome import SubmissionOutcome
from ray_job.submit.retry import retry_transient

_LETTERS = string.ascii_lowercase + string.digits


@dataclass(slots=True)
class RayJobSubmission:
    """`name` is the RayJob's, from `start` on. `open_storage` is needed by `follow` only."""

    cluster: Cluster
    open_storage: Callable[[], Storage] | None
    as_of: date
    adhoc: bool
    force: bool
    now: datetime
    pace: Pace
    name: str = ""
    _storage: Storage | None = None
    _began: float = field(default_factory=time.monotonic)
    _problem: str | None = None

    def look_for_bucket(self) -> None:
        """Open the bucket. One that does not answer now is opened when the receipt is read.

        Raises InputError for an address that is no bucket.
        """
        try:
            self._bucket()
        except StorageError as error:
            emit("submit_retrying", "WARNING", reason=str(error))

    def _bucket(self) -> Storage:
        if self.open_storage is None:
            raise InputError("waiting for a run needs the bucket, where its receipt will be")
        if self._storage is None:
            self._storage = self.open_storage()
        return self._storage

    def start(self) -> None:
        """Create the RayJob, or find that of the same night. Emits `submit_started`.

        Raises InputError, TransientError, ClusterError; see `submit`.
        """
        template = retry_transient(self.cluster.template, self.pace)
        attached = False
        if self.adhoc:
            token = "".join(secrets.choice(_LETTERS) for _ in range(4))
            self.name = rayjob.adhoc_name(self.as_of, self.now, token)
            self._create(template)
        else:
            attached = not self._create_or_find(template)
        emit(
            "submit_started",
            submission=self.name,
            as_of=self.as_of,
            attached=attached,
            adhoc=self.adhoc,
        )

    def _create_or_find(self, template: rayjob.Resource) -> bool:
        """Whether a RayJob was created; False if one of the night is followed.

        After attempts that failed, a further one is created under a new name, once their drivers
        have ended. With `force` the same holds after one that succeeded.
        """
        while True:
            night = self._attempts()
            current = attempts.followed(night, force=self.force)
            if current is not None:
                self.name = current["metadata"]["name"]
                if rayjob.end(current) is None:
                    self._check_entrypoint(current)
                return False
            number = attempts.next_number(night)
            if number > rayjob.LAST_ATTEMPT:
                raise ClusterError(
                    f"attempt {rayjob.LAST_ATTEMPT} of as-of {self.as_of} has ended: read the"
                    " status of its RayJobs, delete them and submit again"
                )
            self._end_drivers(night)
            self.name = rayjob.night_name(self.as_of, number)
            if self._create(template):
                return True
            # Another submitter was first, or the answer to an earlier try was lost.

    def _attempts(self) -> dict[int, rayjob.Resource]:
        return attempts.of_night(retry_transient(self.cluster.all, self.pace), self.as_of)

    def _end_drivers(self, night: dict[int, rayjob.Resource]) -> None:
        """End the drivers that earlier attempts of the night have left, and wait for it.

        After `pace.patience` seconds, for example where a node does not answer, the method goes on:
        two drivers of a night cost time, but publish once.
        """
        for resource in night.values():
            end = rayjob.end(resource)
            if end is not None and end.reason in rayjob.LEAVE_DRIVER:
                retry_transient(partial(self._end_driver, resource), self.pace)
        last = time.monotonic() + self.pace.patience
        while clusters := self._clusters_with_driver():
            for name in clusters:
                retry_transient(partial(self.cluster.delete_ray_cluster, name), self.pace)
            if time.monotonic() > last:
                emit("submit_driver_remains", "WARNING", as_of=self.as_of, clusters=clusters)
                return
            time.sleep(self.pace.retry)

    def _end_driver(self, resource: rayjob.Resource) -> None:
        """Delete the cluster of a RayJob that has ended, and before it KubeRay's submitter.

        The submitter's Job would start another pod, which waits for ever for the secret that goes
        with the cluster.
        """
        self.cluster.delete_job(resource["metadata"]["name"])
        cluster_name = rayjob.cluster_name(resource)
        if cluster_name is not None:
            self.cluster.delete_ray_cluster(cluster_name)

    def _clusters_with_driver(self) -> list[str]:
        pods = retry_transient(self.cluster.pods, self.pace)
        return attempts.clusters_with_driver(pods, self._attempts(), self.as_of)

    def _check_entrypoint(self, running: rayjob.Resource) -> None:
        """Raise InputError if a forced submission would wait for a run that is not forced.

        A running RayJob with the same entrypoint may be from an earlier try of this call.
        """
        if self.force and running["spec"]["entrypoint"] != self._entrypoint():
            raise InputError(
                f"RayJob {self.name} runs this night already, not forced: wait for it or delete it"
            )

    def _entrypoint(self) -> str:
        return rayjob.entrypoint(self.as_of, adhoc=self.adhoc, force=self.force)

    def _create(self, template: rayjob.Resource) -> bool:
        try:
            resource = rayjob.build(
                template, self.name, self.as_of, entrypoint=self._entrypoint(), adhoc=self.adhoc
            )
        except ValueError as error:
            raise InputError(str(error)) from error
        return retry_transient(lambda: self.cluster.create(resource), self.pace)

    def follow(self, outcome: SubmissionOutcome) -> None:
        """Wait for the end and put the receipt's status and exit code into `outcome`.

        Raises InputError, TransientError, ClusterError if the RayJob did not succeed; `outcome`
        then has the reason.
        """
        end = self._wait()
        if end.reason == "deadline" and self._missed_before():
            end = replace(end, reason="second_deadline")
        outcome.outcome = end.reason
        self._raise_failure(end)
        receipt = self._receipt()
        outcome.outcome, outcome.exit_code = receipt.status, receipt.exit_code
        self._prune()

    def _missed_before(self) -> bool:
        """Whether an earlier attempt of the night met its deadline, too."""
        return not self.adhoc and bool(attempts.missed_deadlines(self._attempts()) - {self.name})

    def _wait(self) -> rayjob.End:
        """Copy the driver's log and emit heartbeats until the RayJob ends or is deleted."""
        log = DriverLog(self.cluster, self.name, self.pace)
        log.start()
        heartbeat = time.monotonic()
        try:
            for resource in self.cluster.states(self.name, self.pace):
                if resource is None:
                    return rayjob.End("deleted")
                end = rayjob.end(resource)
                if end is not None:
                    log.finish()
                    return self._explained(end, resource)
                if time.monotonic() - heartbeat >= self.pace.heartbeat:
                    heartbeat = time.monotonic()
                    emit(
                        "submit_heartbeat",
                        submission=self.name,
                        as_of=self.as_of,
                        phase=rayjob.phase(resource),
                        seconds=self._seconds(resource),
                        problem=self._pod_problem(resource),
                    )
        finally:
            log.stop()
        return rayjob.End("deleted")

    def _pod_problem(self, resource: rayjob.Resource) -> str | None:
        """What keeps pods from running; what was seen last if the API does not say."""
        with suppress(StorecastError):
            self._problem = pod_problems.problem(
                resource, self.cluster.pods(), self.cluster.warnings()
            )
        return self._problem

    def _explained(self, end: rayjob.End, resource: rayjob.Resource) -> rayjob.End:
        """The end with the problem of its pods. Ends the driver where it may still run."""
        if end.reason not in rayjob.LEAVE_DRIVER:
            return end
        before = self._problem
        end = replace(end, problem=self._pod_problem(resource) or before)
        with suppress(StorecastError):  # KubeRay deletes the cluster, too, some minutes later.
            self._end_driver(resource)
        return end

    def _seconds(self, resource: rayjob.Resource) -> float:
        """Since the RayJob was created."""
        created = datetime.fromisoformat(resource["metadata"]["creationTimestamp"])
        age_at_start = max(0.0, (self.now - created).total_seconds())
        return round(age_at_start + time.monotonic() - self._began, 1)

    def _raise_failure(self, end: rayjob.End) -> None:
        if end.reason == "succeeded":
            return
        sentence = end.sentence(self.name)
        if end.reason == "invalid":
            raise InputError(sentence)
        raise TransientError(sentence) if end.transient else ClusterError(sentence)

    def _receipt(self) -> Receipt:
        """The newest receipt of this submission.

        A run that had nothing to do wrote none; then the newest receipt of the night that was
        published counts.
        """
        try:
            of_night = receipts.of_night(self._bucket(), self.as_of)
        except StorageError as error:
            raise TransientError(str(error)) from error
        own = [receipt for receipt in of_night if receipt.submission == self.name]
        published = [] if self.adhoc else [receipt for receipt in of_night if receipt.published]
        if not own and not published:
            raise ClusterError(f"RayJob {self.name} succeeded but left no receipt in the bucket")
        return (own or published)[-1]

    def _prune(self) -> None:
        """Delete old RayJobs. A failure to do so does not fail the night."""
        try:
            for name in rayjob.prunable(self.cluster.all(), self.now):
                self.cluster.delete(name)
                emit("submit_pruned", submission=name)
        except StorecastError as error:
            emit("submit_prune_failed", "WARNING", reason=str(error))
