"""`python -m tests.processes.soak [SECONDS]`: racing writers and readers over one bucket, a minute.

Twelve writers publish nights, late stores, backfills and rollbacks over the fake storage, whose
requests fail now and then and whose answers get lost; three readers load what the pointer names.
Ends with 0 if no reader saw anything torn or mixed, and if every publication that was acknowledged
is there once.
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
from tests.support.drafts import DAY, FAILED, OK, A, Desk

WRITERS, READERS = 12, 3
STORES = [f"s{number:02d}" for number in range(20)]
EVERYTHING = {"expected": set(STORES), "known": set(STORES)}


@dataclass
class Seen:
    """What the threads counted. `wrong` is what must not be."""

    counts: Counter[str] = field(default_factory=Counter)
    published: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, name: str) -> None:
        with self.lock:
            self.counts[name] += 1


def write(number: int, until: float, seen: Seen) -> None:
    """One writer: nights, late stores, backfills, now and then a rollback."""
    rng = random.Random(number)
    desk = Desk(open_bucket("gs://chain"))
    while time.monotonic() < until:
        try:
            if rng.random() < 0.03:
                rollback(desk.storage)
                seen.count("rolled back")
                continue
            current = desk.pointer.current_entry
            newest = A if current is None else current.as_of
            as_of = newest + rng.choice([-2, 0, 0, 0, 1]) * DAY
            chosen = rng.sample(STORES, rng.choice([2, len(STORES)]))
            told = {store: FAILED if rng.random() < 0.1 else OK for store in chosen}
            run_id = f"w{number}-{desk.runs}"
            force = rng.random() < 0.3
            draft = desk.draft(
                told, as_of, version=desk.runs, run_id=run_id, force=force, **EVERYTHING
            )
            state = publish(desk.storage, draft, desk.settings).state
            seen.count(state)
            if state == "published":
                with seen.lock:
                    seen.published.append(run_id)
        except (StorecastError, InputError) as error:
            seen.count(type(error).__name__)


def read(until: float, seen: Seen) -> None:
    """One reader: everything that the pointer names must be there, whole and of one release."""
    storage = open_bucket("gs://chain")
    while time.monotonic() < until:
        try:
            current, _ = pointer.read(storage)
            if current.current_entry is not None:
                seen.wrong.extend(look(storage, current, current.current_entry))
                seen.count("read")
        except NotFoundError as error:
            seen.wrong.append(f"named and not there: {error}")
        except CorruptError as error:
            seen.wrong.append(f"torn: {error}")
        except StorecastError as error:
            seen.count(f"reader: {type(error).__name__}")


def look(storage: Storage, current: Pointer, entry: Published) -> Iterator[str]:
    """What is wrong with the current release."""
    release = releases.load(storage, entry.release, entry.sha256)
    told = release.stores.to_pylist()
    if (release.header.release, release.header.as_of) != (entry.release, entry.as_of):
        yield f"{entry.release} holds {release.header.release}"
    if [row["store_id"] for row in told] != STORES:
        yield f"{entry.release} lacks stores"
    if entry.release in current.bad:
        yield f"{entry.release} is current and bad"
    for row in told:
        if row["as_of"] is not None and row["as_of"] > entry.as_of:
            yield f"{entry.release} has a row of {row['as_of']}"
        for one in row["parts"] or []:
            if parts.sha256(storage.read(one["part"])) != one["sha256"]:
                yield f"{one['part']} has other bytes"


def soak(seconds: float) -> Seen:
    seen = Seen()
    with FakeGcs.serve("chain") as gcs:
        os.environ["STORAGE_EMULATOR_HOST"] = gcs.url
        lost = Fault("ack_lost", op="insert")
        gcs.faults.transient(0.02, seed=1, mix=[*TRANSIENT, lost])
        until = time.monotonic() + seconds
        threads = [
            *(threading.Thread(target=write, args=(k, until, seen)) for k in range(WRITERS)),
            *(threading.Thread(target=read, args=(until, seen)) for _ in range(READERS)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gcs.faults.clear()
        current, _ = pointer.read(open_bucket("gs://chain"))
        entered = Counter(entry.run_id for entry in current.history)
        for run_id in seen.published:
            there = len(current.history) < 400 or entered[run_id]
            if entered[run_id] != 1 and there:
                seen.wrong.append(f"{run_id} is {entered[run_id]} times in the history")
    return seen


def main() -> int:
    seen = soak(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
    told = ", ".join(f"{name} {count}" for name, count in sorted(seen.counts.items()))
    sys.stdout.write(f"{told}; wrong: {len(seen.wrong)}\n")
    sys.stdout.writelines(f"  {line}\n" for line in seen.wrong[:20])
    return 1 if seen.wrong or not seen.counts["read"] or not seen.published else 0


if __name__ == "__main__":
    sys.exit(main())
