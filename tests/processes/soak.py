"""`python -m tests.processes.soak [SECONDS]`: writers and readers race on one bucket (60 s).

Twelve writers publish nights, late stores and backfills, and roll back, on the fake storage. Some
requests fail and some answers are lost. Three readers load what the pointer names. The exit code is
0 if no reader got a damaged or mixed release, and if every acknowledged publication is in the
history once.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from ray_job.bucket import parts, pointer, releases
from ray_job.bucket.errors import CorruptError, InputError, NotFoundError, StorecastError
from ray_job.bucket.pointer import Pointer, Published
from ray_job.bucket.storage import Storage, open_bucket
from ray_job.operations.rollback import rollback
from ray_job.publishing.publish import publish
from tests.fake_gcs import TRANSIENT, FakeGcs, Fault
from tests.support.drafts import DAY, FAILED, OK, A, Publisher

WRITERS, READERS = 12, 3
STORES = [f"s{number:02d}" for number in range(20)]
EVERYTHING = {"expected": set(STORES), "known": set(STORES)}


@dataclass
class Report:
    """What the threads counted; `wrong` has a line for each thing that must not happen."""

    counts: Counter[str] = field(default_factory=Counter)
    published: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, name: str) -> None:
        with self.lock:
            self.counts[name] += 1


def write(number: int, until: float, report: Report) -> None:
    """One writer: nights, late stores and backfills, and a rollback now and then."""
    rng = random.Random(number)
    publisher = Publisher(open_bucket("gs://chain"))
    while time.monotonic() < until:
        try:
            if rng.random() < 0.03:
                rollback(publisher.storage)
                report.count("rolled back")
                continue
            current = publisher.pointer.current_entry
            newest = A if current is None else current.as_of
            as_of = newest + rng.choice([-2, 0, 0, 0, 1]) * DAY
            chosen = rng.sample(STORES, rng.choice([2, len(STORES)]))
            outcomes = {store: FAILED if rng.random() < 0.1 else OK for store in chosen}
            run_id = f"w{number}-{publisher.runs}"
            force = rng.random() < 0.3
            draft = publisher.draft(
                outcomes, as_of, version=publisher.runs, run_id=run_id, force=force, **EVERYTHING
            )
            state = publish(publisher.storage, draft, publisher.settings).state
            report.count(state)
            if state == "published":
                with report.lock:
                    report.published.append(run_id)
        except (StorecastError, InputError) as error:
            report.count(type(error).__name__)


def read(until: float, report: Report) -> None:
    """One reader: everything that the pointer names must be there, whole and of one release."""
    storage = open_bucket("gs://chain")
    while time.monotonic() < until:
        try:
            current, _ = pointer.read(storage)
            if current.current_entry is not None:
                report.wrong.extend(defects(storage, current, current.current_entry))
                report.count("read")
        except NotFoundError as error:
            report.wrong.append(f"named and not there: {error}")
        except CorruptError as error:
            report.wrong.append(f"torn: {error}")
        except StorecastError as error:
            report.count(f"reader: {type(error).__name__}")


def defects(storage: Storage, current: Pointer, entry: Published) -> Iterator[str]:
    """A line for each defect of the current release."""
    release = releases.load(storage, entry.release, entry.sha256)
    rows = release.stores.to_pylist()
    if (release.header.release, release.header.as_of) != (entry.release, entry.as_of):
        yield f"{entry.release} holds {release.header.release}"
    if [row["store_id"] for row in rows] != STORES:
        yield f"{entry.release} lacks stores"
    if entry.release in current.bad:
        yield f"{entry.release} is current and bad"
    for row in rows:
        if row["as_of"] is not None and row["as_of"] > entry.as_of:
            yield f"{entry.release} has a row of {row['as_of']}"
        for reference in row["parts"] or []:
            if parts.sha256(storage.read(reference["part"])) != reference["sha256"]:
                yield f"{reference['part']} has other bytes"


def soak(seconds: float) -> Report:
    report = Report()
    with FakeGcs.serve("chain") as gcs:
        os.environ["STORAGE_EMULATOR_HOST"] = gcs.url
        lost = Fault("ack_lost", op="insert")
        gcs.faults.transient(0.02, seed=1, mix=[*TRANSIENT, lost])
        until = time.monotonic() + seconds
        threads = [
            *(threading.Thread(target=write, args=(k, until, report)) for k in range(WRITERS)),
            *(threading.Thread(target=read, args=(until, report)) for _ in range(READERS)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gcs.faults.clear()
        current, _ = pointer.read(open_bucket("gs://chain"))
        entered = Counter(entry.run_id for entry in current.history)
        for run_id in report.published:
            kept = len(current.history) < 400 or entered[run_id]
            if entered[run_id] != 1 and kept:
                report.wrong.append(f"{run_id} is {entered[run_id]} times in the history")
    return report


def main() -> int:
    report = soak(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
    counts = ", ".join(f"{name} {count}" for name, count in sorted(report.counts.items()))
    sys.stdout.write(f"{counts}; wrong: {len(report.wrong)}\n")
    sys.stdout.writelines(f"  {line}\n" for line in report.wrong[:20])
    return 1 if report.wrong or not report.counts["read"] or not report.published else 0


if __name__ == "__main__":
    sys.exit(main())
