"""`submit`: creates the RayJob of a night, or finds it, and waits for its receipt.

Idempotent and safe to race: the RayJob's name follows from the as-of, and the cluster lets one
submitter create it; all others wait for the same one. Killing a submitter leaves the RayJob
running, and the next submitter attaches to it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import date, datetime, timedelta

from ray_job.bucket.errors import InputError
from ray_job.bucket.storage import Storage
from ray_job.settings import Settings
from ray_job.submit import rayjob
from ray_job.submit.cluster import NIGHTLY, Cluster, Pace
from ray_job.submit.outcome import reported_outcome
from ray_job.submit.rayjob_submission import RayJobSubmission
from ray_job.submit.retry import retry_transient


def submit(
    settings: Settings,
    open_storage: Callable[[], Storage] | None,
    *,
    as_of: date | None,
    wait: bool,
    adhoc: bool,
    now: datetime,
    force: bool = False,
    cluster: Cluster | None = None,
    pace: Pace = NIGHTLY,
) -> int:
    """Create or find the RayJob of `as_of`. Returns its receipt's exit code with `wait`, else 0.

    `as_of` None is the day before the time for which the CronJob was scheduled, or yesterday if no
    schedule made this process. An `adhoc` run has a RayJob of its own and publishes nothing. With
    `force` the night runs again even if it ran, and publishes against gates and holds. SIGTERM ends
    the wait with exit code 143 and leaves the RayJob running. With `wait` the event
    `submit_finished` reports every end, also that of a submission that failed. The bucket is opened
    first, so that a wrong address is told at once; one that does not answer keeps no run back.

    Raises InputError (an as-of later than yesterday, no cluster, no template, a RayJob that the
    cluster or its operator refuses), TransientError (the API or the storage does not answer, the
    head was lost), ClusterError (the run failed, was stopped, or wrote no receipt).
    """
    if wait and open_storage is None:
        raise InputError("waiting for a run needs the bucket, where its receipt will be")
    if adhoc and force:
        raise InputError("--adhoc publishes nothing, so there is nothing to --force")
    with reported_outcome(adhoc=adhoc, waits=wait) as outcome:
        cluster = cluster or Cluster.open(os.environ.get("STORECAST_NAMESPACE"))
        outcome.as_of = night = _night(cluster, settings, as_of, now, pace)
        submission = RayJobSubmission(
            cluster, open_storage, night, adhoc=adhoc, force=force, now=now, pace=pace
        )
        if wait:
            submission.look_for_bucket()
        submission.start()
        outcome.submission = submission.name
        if wait:
            outcome.outcome = "unknown"
            submission.follow(outcome)
    return outcome.exit_code or 0


def _night(
    cluster: Cluster, settings: Settings, as_of: date | None, now: datetime, pace: Pace
) -> date:
    """`as_of` if it is given, else the night of the schedule, else yesterday."""
    yesterday = now.astimezone(settings.zone).date() - timedelta(days=1)
    night = as_of or _scheduled_night(cluster, settings, pace) or yesterday
    if night > yesterday:
        raise InputError(f"the as-of {night} is later than yesterday, {yesterday}")
    return night


def _scheduled_night(cluster: Cluster, settings: Settings, pace: Pace) -> date | None:
    """The night for which the CronJob's schedule made the Job of this pod, if a schedule did."""
    job = os.environ.get("STORECAST_JOB_NAME")
    scheduled = retry_transient(lambda: cluster.scheduled_at(job), pace) if job else None
    if scheduled is None:
        return None
    try:
        return rayjob.night_of_schedule(scheduled, settings.zone)
    except ValueError as error:
        raise InputError(f"Job {job}: {error}") from error
