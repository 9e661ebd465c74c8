"""`storecast submit`: creates the night's RayJob, or finds it, and waits for what it did.

Idempotent and safe to race: the RayJob's name follows from the as-of, and the cluster lets one
submitter create it; whoever comes later waits for the same one. Killing a submitter leaves the
RayJob alone, and the next one attaches to it.
"""

from __future__ import annotations

import os
import secrets
import signal
import string
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from types import FrameType
from typing import TypeVar

from ray_job.bucket import receipts
from ray_job.bucket.errors import InputError, StorageError, StorecastError, TransientError
from ray_job.bucket.receipts import Receipt
from ray_job.bucket.storage import Storage
from ray_job.events import emit
from ray_job.settings import Settings
from ray_job.submit import rayjob
from ray_job.submit.cluster import NIGHTLY, Cluster, ClusterError, Pace
from ray_job.submit.driver_log import DriverLog

TERMINATED = 128 + signal.SIGTERM
_LETTERS = string.ascii_lowercase + string.digits

T = TypeVar("T")


def submit(
    settings: Settings,
    storage: Storage | None,
    *,
    as_of: date | None,
    wait: bool,
    adhoc: bool,
    now: datetime,
    force: bool = False,
    cluster: Cluster | None = None,
    pace: Pace = NIGHTLY,
) -> int:
    """Create or find the RayJob of `as_of`; the exit code of its receipt with `wait`, else 0.

    The as-of that is not given is the day before the time for which the CronJob was scheduled, or
    yesterday. An `adhoc` run has a RayJob of its own and publishes nothing. With `force` the night
    runs again although it ran, and publishes against gates and holds. SIGTERM ends the wait with
    exit code 143 and leaves the RayJob running. With `wait` the event `submit_finished` tells every
    end, also of a submission that came to nothing.

    Raises InputError (an as-of later than yesterday, no cluster, no template, a RayJob that the
    cluster or its operator refuses), TransientError (the API or the storage does not answer, the
    head was lost), ClusterError (the run failed, was stopped, or wrote no receipt).
    """
    if wait and storage is None:
        raise InputError("waiting for a run needs the bucket, where its receipt will be")
    if adhoc and force:
        raise InputError("--adhoc publishes nothing, so there is nothing to --force")
    with _told_at_its_end(adhoc=adhoc, waits=wait) as ending:
        there = cluster or Cluster.open(os.environ.get("STORECAST_NAMESPACE"))
        ending.as_of = night = _night(there, settings, as_of, now, pace)
        errand = _Errand(there, storage, night, adhoc=adhoc, force=force, now=now, pace=pace)
        errand.start()
        ending.submission = errand.name
        if wait:
            ending.outcome = "unknown"
            errand.follow(ending)
    return ending.exit_code or 0


def _night(
    cluster: Cluster, settings: Settings, as_of: date | None, now: datetime, pace: Pace
) -> date:
    """The as-of that was given, else that of the schedule, else yesterday."""
    yesterday = now.astimezone(settings.zone).date() - timedelta(days=1)
    night = as_of or _scheduled_night(cluster, settings, pace) or yesterday
    if night > yesterday:
        raise InputError(f"the as-of {night} is later than yesterday, {yesterday}")
    return night


def _scheduled_night(cluster: Cluster, settings: Settings, pace: Pace) -> date | None:
    """The night for which the CronJob's schedule made the Job of this pod, if one did."""
    job = os.environ.get("STORECAST_JOB_NAME")
    scheduled = _patiently(lambda: cluster.scheduled_at(job), pace) if job else None
    if scheduled is None:
        return None
    try:
        return rayjob.night_of_schedule(scheduled, settings.zone)
    except ValueError as error:
        raise InputError(f"Job {job}: {error}") from error


@dataclass(slots=True)
class _Ending:
    """What `submit_finished` tells: the receipt's status, or why there is none."""

    outcome: str = "not_submitted"
    submission: str | None = None
    as_of: date | None = None
    exit_code: int | None = None


@contextmanager
def _told_at_its_end(*, adhoc: bool, waits: bool) -> Iterator[_Ending]:
    """Emits the event however the block ends; whoever does not wait sees the error himself."""
    ending, began = _Ending(), time.monotonic()
    try:
        with _sigterm_raises():
            yield ending
    except _TerminatedError:
        ending.outcome = "left_running" if ending.submission else "interrupted"
        ending.exit_code = TERMINATED
    except TransientError:
        if ending.outcome not in rayjob.TRANSIENT:
            ending.outcome = "unreachable"
        raise
    finally:
        if waits:
            emit(
                "submit_finished",
                "INFO" if ending.outcome in _GOOD else "ERROR",
                **asdict(ending),
                adhoc=adhoc,
                seconds=round(time.monotonic() - began, 1),
            )


@dataclass(slots=True)
class _Errand:
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
        template = _patiently(self.cluster.template, self.pace)
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
        """True where it was created. One that failed gets a further attempt, under a new name; with
        `force` so does one that succeeded."""
        attempt = 1
        while attempt <= rayjob.LAST_ATTEMPT:
            self.name = rayjob.night_name(self.as_of, attempt)
            if self._create(template):
                return True
            found = _patiently(lambda: self.cluster.get(self.name), self.pace)
            if found is None:
                continue  # It was deleted in between, so its name is free again.
            ended = rayjob.end(found)
            if ended is None:
                self._attach(found)
                return False
            if ended.reason == "succeeded" and not self.force:
                return False
            attempt += 1
        raise ClusterError(
            f"the {rayjob.LAST_ATTEMPT} RayJobs of as-of {self.as_of} have all ended: look at them,"
            f" delete them and submit again"
        )

    def _attach(self, found: rayjob.Resource) -> None:
        """Whoever forces waits for a forced run only, be it from an earlier try of this call."""
        if self.force and found["spec"]["entrypoint"] != self._entrypoint():
            raise InputError(
                f"RayJob {self.name} runs this night already, not forced: wait for it or delete it"
            )

    def _entrypoint(self) -> str:
        return rayjob.entrypoint(self.as_of, adhoc=self.adhoc, force=self.force)

    def _create(self, template: rayjob.Resource) -> bool:
        entrypoint = self._entrypoint()
        try:
            body = rayjob.build(
                template, self.name, self.as_of, entrypoint=entrypoint, adhoc=self.adhoc
            )
        except ValueError as error:
            raise InputError(str(error)) from error
        return _patiently(lambda: self.cluster.create(body), self.pace)

    def follow(self, ending: _Ending) -> None:
        """Wait for the end; the receipt decides the exit code, or there is an error."""
        ended = self._wait()
        ending.outcome = ended.reason
        self._raise_failure(ended)
        receipt = self._receipt()
        ending.outcome, ending.exit_code = receipt.status, receipt.exit_code
        self._prune()

    def _wait(self) -> rayjob.End:
        log = DriverLog(self.cluster, self.name, self.pace)
        log.start()
        beat = time.monotonic()
        try:
            for state in self.cluster.states(self.name, self.pace):
                if state is None:
                    return rayjob.End("deleted")
                if (ended := rayjob.end(state)) is not None:
                    log.finish()
                    return ended
                if time.monotonic() - beat >= self.pace.heartbeat:
                    beat = time.monotonic()
                    emit(
                        "submit_heartbeat",
                        submission=self.name,
                        as_of=self.as_of,
                        phase=rayjob.phase(state),
                        seconds=self._seconds(state),
                    )
        finally:
            log.stop()
        return rayjob.End("deleted")

    def _seconds(self, state: rayjob.Resource | None) -> float:
        """Since the RayJob was created, or since this submitter came."""
        elapsed = time.monotonic() - self._began
        if state is not None:
            created = datetime.fromisoformat(state["metadata"]["creationTimestamp"])
            elapsed += max(0.0, (self.now - created).total_seconds())
        return round(elapsed, 1)

    def _raise_failure(self, ended: rayjob.End) -> None:
        if ended.reason == "succeeded":
            return
        sentence = ended.sentence(self.name)
        if ended.reason == "invalid":
            raise InputError(sentence)
        raise TransientError(sentence) if ended.transient else ClusterError(sentence)

    def _receipt(self) -> Receipt:
        """The newest receipt of this submission; a run that found all done wrote none of its own,
        and what counts is then the night's newest that was published."""
        assert self.storage is not None  # noqa: S101 - `submit` refused to wait without
        try:
            found = receipts.of_night(self.storage, self.as_of)
        except StorageError as error:
            raise TransientError(str(error)) from error
        own = [receipt for receipt in found if receipt.submission == self.name]
        published = [] if self.adhoc else [receipt for receipt in found if receipt.published]
        if not own and not published:
            raise ClusterError(f"RayJob {self.name} succeeded but left no receipt in the bucket")
        return (own or published)[-1]

    def _prune(self) -> None:
        """Old RayJobs go; that they cannot is no reason to fail the night."""
        try:
            for name in rayjob.prunable(self.cluster.mine(), self.now):
                self.cluster.delete(name)
                emit("submit_pruned", submission=name)
        except StorecastError as error:
            emit("submit_prune_failed", "WARNING", reason=str(error))


_GOOD = frozenset(
    {
        "published",
        "published_with_failures",
        "unchanged",
        "held",
        "unpublished",
        "left_running",
        "interrupted",
    }
)


class _TerminatedError(BaseException):
    """SIGTERM, raised where the main thread waits."""


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(_signal: int, _frame: FrameType | None) -> None:
        raise _TerminatedError

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _patiently(call: Callable[[], T], pace: Pace) -> T:
    """`call`, again while what fails may pass; each of the cluster's calls can be repeated."""
    end = time.monotonic() + pace.patience
    while True:
        try:
            return call()
        except TransientError as error:
            if time.monotonic() > end:
                raise
            emit("submit_retrying", "WARNING", reason=str(error))
            time.sleep(pace.retry)
