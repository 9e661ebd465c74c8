"""`python -m tests.processes.faults [--ray] [--wait SECONDS] [WORD…]`: nights on failing storage.

For each kind of object that a night touches, and each way in which a storage fails, `storecast run
--ingest` runs on the fake storage until it ends. Every request for that kind meets the fault. Then
the storage is well again, and the command is given again. Prints the seconds of the first run
beside its setting `run.storage_wait_seconds`, its exit code, what it said last, and whether the
second one published. WORDs choose the tries whose names contain one of them. By default the chunks
are done in the driver. With `--ray` a local Ray does them.

The exit code is 1 if a run took longer than its setting, an undisturbed run and five seconds; if it
ended with a traceback; or if the next run published nothing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray_job.__main__ as command_line
from ray_job.bucket import keys, pointer
from ray_job.bucket.storage import open_bucket
from ray_job.cli import nightly
from ray_job.execution.inline import InlineExecutor
from ray_job.nightly import job
from tests.fake_gcs import FakeGcs, Fault
from tests.fake_gcs.request import Request
from tests.processes.kills import in_fork
from tests.support.shop import DAY, LAST, SETTINGS, Shop, filled, midnight, objects, sales_row

BUCKET = "chain"
_PROCESSES = multiprocessing.get_context("fork")
_AT_ONCE = 3
"""Tries at once: they wait nearly all the time."""
_START_SECONDS = 5.0
_NEVER = 3600.0
_LONGEST = 240.0
"""Seconds after which a night is ended that does not end."""


@dataclass(frozen=True, slots=True)
class Kind:
    """The requests that meet the fault. `within` is the folder of a list; `arrange` the bucket.

    `planned`: only once the driver has read all that it needs for its plan, so that workers do.
    """

    key: str = "*"
    op: str = "*"
    within: str = ""
    arrange: Callable[[FakeGcs], object] = lambda _: None
    planned: bool = False

    def fault(self, fault: Fault) -> Fault:
        if self.planned:
            return replace(fault, when=_AfterPlan(self.key, self.op), times=None)

        def lists(request: Request) -> bool:
            return request.query.get("prefix", "").startswith(self.within)

        when = lists if self.within else None
        return replace(fault, key=self.key, op=self.op, when=when, times=None)


@dataclass(slots=True)
class _AfterPlan:
    """Whether a request is for these objects, and comes after those of the plan.

    The last ones of these look for parts of the night that exist already.
    """

    key: str
    op: str
    has_plan: bool = False

    def __call__(self, request: Request) -> bool:
        self.has_plan |= request.key.startswith(f"{keys.PARTS}as_of={LAST}/")
        matches = fnmatchcase(request.key, self.key) and fnmatchcase(request.op, self.op)
        return self.has_plan and matches


def _without(prefix: str) -> Callable[[FakeGcs], object]:
    return lambda gcs: [gcs.delete(BUCKET, key) for key in gcs.keys(BUCKET, prefix)]


KINDS = {
    "everything": Kind(),
    "pointer read": Kind(keys.POINTER, "get"),
    "pointer written": Kind(keys.POINTER, "insert"),
    "release read": Kind(f"{keys.RELEASES}*", "get"),
    "release written": Kind(f"{keys.RELEASES}*", "insert"),
    "parts read": Kind(f"{keys.PARTS}*", "get"),
    "parts written": Kind(f"{keys.PARTS}*", "insert"),
    "receipt written": Kind(f"{keys.RECEIPTS}*", "insert"),
    "scores written": Kind(f"{keys.ACCURACY}*", "insert"),
    "widths": Kind(f"{keys.WIDTHS}*"),
    "log listed": Kind(op="list", within=f"{keys.BATCH_DATA}/_delta_log"),
    "log read": Kind(f"{keys.BATCH_DATA}/_delta_log/*", "get"),
    "log written": Kind(f"{keys.BATCH_DATA}/_delta_log/*", "insert"),
    "manifest": Kind(f"{keys.BATCH_DATA}/_ingest/*"),
    "partition files read": Kind(
        f"{keys.BATCH_DATA}/store_id=*", "get", arrange=_without(keys.PACKS)
    ),
    "partition files read by workers": Kind(
        f"{keys.BATCH_DATA}/store_id=*", "get", arrange=_without(keys.PACKS), planned=True
    ),
    "partition files written": Kind(f"{keys.BATCH_DATA}/store_id=*", "insert"),
    "packs index": Kind(keys.PACK_INDEX, "get"),
    "packs read": Kind("packs/*.arrows", "get"),
    "packs written": Kind("packs/*", "insert"),
    "context listed": Kind(op="list", within="context/"),
    "context read": Kind("context/*", "get"),
    "raw files listed": Kind(op="list", within=keys.RAW_DATA),
    "raw files read": Kind(f"{keys.RAW_DATA}*", "get"),
    "current model read": Kind(keys.CURRENT_MODEL, "get"),
    "model read": Kind("models/*/*", "get"),
}
FAULTS = {
    "503": Fault("status", status=503),
    "stalls": Fault("stall", seconds=_NEVER),
    "reset": Fault("reset"),
    "truncated": Fault("truncate"),
    "403": Fault("status", status=403),
}
UNDISTURBED = "undisturbed"
REFUSED = "everything, refused"
"""Nothing listens at the storage's address."""


class InDriver(InlineExecutor):
    """In the place of `RayOnDemand`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    def start(self) -> None:
        pass

    def connect(self) -> None:
        pass

    def end(self) -> None:
        pass


@dataclass(slots=True)
class Outcome:
    """Of a try: the seconds of the run, its exit code, what it said, and the next run's result."""

    name: str
    fired: int = 0
    seconds: float = 0.0
    code: int | None = None
    said: str = ""
    next_code: int | None = None
    published: bool = False
    problems: list[str] = field(default_factory=list)


def _night(url: Connection, output: Path, wait: int, with_ray: bool) -> None:
    """`storecast run --ingest` at its midnight, once the address of the storage is sent."""
    variables = {
        "STORAGE_EMULATOR_HOST": url.recv(),
        "STORECAST_BUCKET": f"gs://{BUCKET}",
        "STORECAST_TIME_ZONE": SETTINGS.time_zone,
        "STORECAST_LOOKBACK_DAYS": str(SETTINGS.lookback_days),
        "STORECAST_PLAN__CHUNK_ROWS": str(SETTINGS.plan.chunk_rows),
        "STORECAST_RUN__STORAGE_WAIT_SECONDS": str(wait),
    }
    os.environ.update(variables)
    with output.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    opened = nightly.open_command

    def at_midnight(*given: Any, **options: Any) -> Any:
        return replace(opened(*given, **options), now=midnight(LAST))

    nightly.open_command = at_midnight
    if not with_ray:
        job.RayOnDemand = InDriver  # type: ignore[assignment, misc]
    sys.argv = ["storecast", "run", "--ingest", "--as-of", str(LAST)]
    command_line.main()


@dataclass(slots=True)
class Night:
    """A process that is there, and runs the night once it is begun: no thread is forked."""

    process: ForkProcess
    url: Connection
    output: Path

    @classmethod
    def waiting(cls, output: Path, wait: int, with_ray: bool) -> Night:
        theirs, ours = _PROCESSES.Pipe(duplex=False)
        process = _PROCESSES.Process(target=_night, args=(theirs, output, wait, with_ray))
        process.start()
        return cls(process, ours, output)

    def run(self, url: str) -> tuple[float, int | None]:
        """The seconds until it has ended, and its exit code: None where it did not end."""
        began = time.monotonic()
        self.url.send(url)
        self.process.join(_LONGEST)
        seconds = time.monotonic() - began
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            self.process.join()
        return seconds, code


def try_fault(name: str, prepared: Path, folder: Path, wait: int, with_ray: bool) -> Outcome:
    """A night that meets the fault from its beginning, and one on well storage."""
    first, second = (
        Night.waiting(folder / f"{name} {number}", wait, with_ray) for number in (1, 2)
    )
    outcome = Outcome(name)
    with ExitStack() as stack:
        gcs = stack.enter_context(FakeGcs.serve(BUCKET))
        for path in sorted(prepared.rglob("*")):
            if path.is_file() and not path.name.startswith(".storecast-"):
                gcs.put(BUCKET, str(path.relative_to(prepared)), path.read_bytes())
        url, fault = gcs.url, None
        kind, _, way = name.rpartition(", ")
        if name == REFUSED:
            with FakeGcs.serve() as closed:
                url = closed.url
        elif name != UNDISTURBED:
            KINDS[kind].arrange(gcs)
            fault = gcs.faults.add(KINDS[kind].fault(FAULTS[way]))
        outcome.seconds, outcome.code = first.run(url)
        outcome.fired = 1 if fault is None else fault.fired
        gcs.faults.clear()
        os.environ["STORAGE_EMULATOR_HOST"] = gcs.url
        _, outcome.next_code = second.run(gcs.url)
        current = pointer.read(open_bucket(f"gs://{BUCKET}"))[0].current_entry
        outcome.published = current is not None and current.as_of == LAST
    outcome.said = _said(first.output)
    if "Traceback" in first.output.read_text(errors="replace"):
        outcome.problems.append("a traceback")
    if outcome.next_code != 0 or not outcome.published:
        outcome.problems.append(f"the next run: exit code {outcome.next_code}")
        outcome.problems.append(_said(second.output))
    return outcome


def _said(output: Path) -> str:
    """The last line with an error or a reason, else the last line."""
    lines = [line for line in output.read_text(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if "storage" in line or "storecast:" in line]
    return (telling or lines or [""])[-1].strip()[:300]


def _prepare(root: Path) -> None:
    """A bucket with two nights and a new raw file: a night reads and writes every kind."""
    storage = filled(root, objects())
    shop = Shop(storage)
    for back in (2, 1):
        shop.run(LAST - back * DAY)
    rows = [{"store_id": f"s{n:03d}", "region": "BE"} for n in range(1, 11)]
    shop.deliver([sales_row("s003", LAST, 55.0)])
    shop.deliver(rows, name="stores", kind="stores")
    (root / "raw_data/late.csv").write_text(
        f"store_id,date,sales,open,promo\ns004,{LAST},77,1,0\ns012,{LAST},5,1,0\n"
    )


def _in_process(path: Path, *given: Any) -> None:
    path.write_text(json.dumps(asdict(try_fault(*given))))


def try_all(names: list[str], folder: Path, wait: int, with_ray: bool) -> Iterator[Outcome]:
    """The outcomes as they come, some tries at once, each in processes of its own."""
    waiting, running = list(reversed(names)), {}
    while waiting or running:
        while waiting and len(running) < (1 if with_ray else _AT_ONCE):
            name = waiting.pop()
            path = folder / f"{name}.json"
            given = (path, name, folder / "bucket", folder, wait, with_ray)
            process = _PROCESSES.Process(target=_in_process, args=given)
            process.start()
            running[process.sentinel] = process, path
        for sentinel in connection.wait(list(running)):
            process, path = running.pop(sentinel)  # type: ignore[call-overload]
            process.join()
            if path.exists():
                yield Outcome(**json.loads(path.read_text()))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*")
    parser.add_argument("--ray", action="store_true", help="a local Ray does the chunks")
    parser.add_argument("--wait", type=int, default=8, help="run.storage_wait_seconds")
    options = parser.parse_args()
    every = [REFUSED, *(f"{kind}, {way}" for kind in KINDS for way in FAULTS)]
    names = [name for name in every if any(word in name for word in options.words or [""])]
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        code, text = in_fork(lambda: _prepare(folder / "bucket"))
        if code:
            sys.stdout.write(f"{text}\n")
            return 1
        sys.stdout.write(f"The setting: {options.wait} s.\n\n")
        sys.stdout.write("| what fails | requests | seconds | exit code | it said | next run |\n")
        sys.stdout.write("|---|---|---|---|---|---|\n")
        [undisturbed] = try_all([UNDISTURBED], folder, options.wait, options.ray)
        _print(undisturbed)
        allowed = options.wait + undisturbed.seconds + _START_SECONDS
        for outcome in try_all(names, folder, options.wait, options.ray):
            if outcome.seconds > allowed or outcome.code is None:
                outcome.problems.append("too long")
            failed += bool(outcome.problems)
            _print(outcome)
    sys.stdout.write(f"\n{len(names)} tries, {failed} wrong\n")
    return 1 if failed else 0


def _print(outcome: Outcome) -> None:
    following = "published" if outcome.published and outcome.next_code == 0 else "nothing"
    sys.stdout.write(
        f"| {outcome.name} | {outcome.fired} | {outcome.seconds:.1f} | {outcome.code}"
        f" | {outcome.said} | {following} |\n"
    )
    sys.stdout.write("".join(f"  WRONG: {problem}\n" for problem in outcome.problems))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
