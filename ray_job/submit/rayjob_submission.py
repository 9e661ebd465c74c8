"""One submission: its RayJob is created or found, followed to its end, and its receipt read."""

from __future__ import annotations

import secrets
import string
import time
from dataclasses import dataclass, field
from datetime import date, datetime

from ray_job.bucket import receipts
from ray_job.bucket.errors import InputError, StorageError, StorecastError, TransientError
from ray_job.bucket.receipts import Receipt
from ray_job.bucket.storage import Storage
from ray_job.events import emit
from ray_job.submit import rayjob
from ray_job.submit.cluster import Cluster, ClusterError, Pace
from ray_job.submit.driver_log import DriverLog
from ray_job.submit.outcome import SubmissionOutcome
from ray_job.submit.retry import retry_transient

_LETTERS = string.ascii_lowercase + string.digits


@dataclass(slots=True)
class RayJobSubmission:
    """`name` is the RayJob's, from `start` on. `storage` is needed by `follow` only."""

    cluster: Cluster
    storage: Storage | None
    as_of: date
    adhoc: bool
    force: bool
    now: datetime
    pace: Pace
    name: str = ""
    _began: float = field(default_factory=time.monotonic)

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
        """Whether a RayJob was created; False if one of the night was found.

        After a RayJob that failed, a further attempt is created under a new name. With `force` the
        same holds after one that succeeded.
        """
        attempt = 1
        while attempt <= rayjob.LAST_ATTEMPT:
            self.name = rayjob.night_name(self.as_of, attempt)
            if self._create(template):
                return True
            existing = retry_transient(lambda: self.cluster.get(self.name), self.pace)
            if existing is None:
                continue  # It was deleted in between, so its name is free again.
            end = rayjob.end(existing)
            if end is None:
                self._check_entrypoint(existing)
                return False
            if end.reason == "succeeded" and not self.force:
                return False
            attempt += 1
        raise ClusterError(
            f"all {rayjob.LAST_ATTEMPT} RayJobs of as-of {self.as_of} have ended: read their"
            " status, delete them and submit again"
        )

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
        outcome.outcome = end.reason
        self._raise_failure(end)
        receipt = self._receipt()
        outcome.outcome, outcome.exit_code = receipt.status, receipt.exit_code
        self._prune()

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
                    return end
                if time.monotonic() - heartbeat >= self.pace.heartbeat:
                    heartbeat = time.monotonic()
                    emit(
                        "submit_heartbeat",
                        submission=self.name,
                        as_of=self.as_of,
                        phase=rayjob.phase(resource),
                        seconds=self._seconds(resource),
                    )
        finally:
            log.stop()
        return rayjob.End("deleted")

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
        if self.storage is None:
            raise InputError("waiting for a run needs the bucket, where its receipt will be")
        try:
            of_night = receipts.of_night(self.storage, self.as_of)
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
            for name in rayjob.prunable(self.cluster.submitted(), self.now):
                self.cluster.delete(name)
                emit("submit_pruned", submission=name)
        except StorecastError as error:
            emit("submit_prune_failed", "WARNING", reason=str(error))
