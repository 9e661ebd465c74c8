"""`python -m tests.processes.kills [COMMAND…] [--every N]`: each command killed at each change.

A command is killed (by `_exit`, so that nothing cleans up) right before each call that changes a
file: opened to be written, linked, renamed, removed, or a folder made, also in delta-rs, whose
commits stand between two such calls. Then the same command is given again. The bucket must be as
after one undisturbed command, the exit code 0, and after a clean-up with aged files no temporary
file may be left. Prints a table of what was tried, and exits with 1 if anything was wrong.

Each try runs in a fork of this process, which has loaded everything and has started no thread.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_job import ingest
from ray_job.backtest.promotion import promote_model
from ray_job.bucket import keys, pointer, receipts, releases
from ray_job.bucket.storage import Storage, open_bucket
from ray_job.data.context.tables import open_context
from ray_job.data.histories import open_histories
from ray_job.data.parquet import read_table
from ray_job.model import registry
from ray_job.operations.clean_up import clean_up
from ray_job.operations.rollback import rollback
from ray_job.progress import SilentProgress
from ray_job.settings import Ingest, Plan
from tests.support.shop import DAY, LAST, SETTINGS, Shop, filled, midnight, sales_row, train

KILLED = 77
_CHANGES = ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_OLD = 40 * 86_400
LATE = [sales_row("s002", LAST, 12345.0), sales_row("s011", LAST, 99.0)]
FEW_FILES = SETTINGS.model_copy(
    update={
        "ingest": Ingest(row_group_rows=200, compact_above_files=1),
        "plan": Plan(chunk_rows=900),
    }
)


def _shop(storage: Storage) -> Shop:
    return Shop(storage, FEW_FILES)


def _deliver(storage: Storage, **options: Any) -> None:
    """`ingest FILE` of a file that lies beside the bucket."""
    path = Path(storage.url).parent / "late.parquet"
    if not path.exists():
        pq.write_table(pa.Table.from_pylist(LATE), path)
    ingest.ingest(storage, FEW_FILES, [path], now=midnight(LAST), **options)


def _ingest_raw(storage: Storage) -> None:
    ingest.ingest(storage, FEW_FILES, now=midnight(LAST))


def _compact(storage: Storage) -> None:
    for night in range(16):
        scope = ingest.CompactScope(LAST + night * DAY)
        ingest.compact(storage, FEW_FILES, scope, now=midnight(LAST))


def _run(storage: Storage) -> None:
    assert _shop(storage).run(LAST).exit_code == 0


def _run_again(storage: Storage) -> None:
    """An hourly run of the same as-of, with late data."""
    _deliver(storage)
    _run(storage)


def _promote(storage: Storage) -> None:
    promote_model(
        storage,
        FEW_FILES,
        "second",
        days=28,
        force=True,
        now=midnight(LAST),
        progress=SilentProgress(),
    )


def _ingest_and_run(storage: Storage) -> None:
    """`run --ingest`, with compaction, without the start of Ray."""
    scope = ingest.CompactScope(LAST)
    ingest.ingest(storage, FEW_FILES, now=midnight(LAST), compact=scope, leave_out_bad=True)
    _run(storage)


def _clean(storage: Storage) -> None:
    clean_up(storage, datetime.now(UTC))


def _roll_back(storage: Storage) -> None:
    rollback(storage)


def _roll_back_to(storage: Storage) -> None:
    oldest = pointer.read(storage)[0].history[-1].release
    rollback(storage, oldest)


def _from_batch_data(storage: Storage) -> None:
    ingest.ingest(storage, FEW_FILES, from_batch_data=True, now=midnight(LAST))


COMMANDS: Mapping[str, Callable[[Storage], None]] = {
    "ingest FILE": _deliver,
    "ingest --replace FILE": lambda storage: _deliver(storage, replace=True),
    "ingest": _ingest_raw,
    "ingest --from-batch-data": _from_batch_data,
    "compaction": _compact,
    "run": _run,
    "ingest FILE; run": _run_again,
    "run --ingest": _ingest_and_run,
    "rollback": _roll_back,
    "rollback RELEASE": _roll_back_to,
    "promote": _promote,
    "clean-up": _clean,
}


def prepare(root: Path) -> None:
    """A bucket with two nights, a second model, late raw files, a foreign file, and orphans."""
    from tests.support.shop import objects  # noqa: PLC0415 - it is made once, in this fork

    storage = filled(root, objects())
    shop = _shop(storage)
    for back in (2, 1):
        shop.run(LAST - back * DAY)
    shop.deliver([sales_row("s003", LAST, 55.0)])
    train(storage, "second", promote=False)
    (root / "raw_data/late.csv").write_text(
        f"store_id,date,sales,open,promo\ns004,{LAST},77,1,0\ns012,{LAST},5,1,0\n"
    )
    foreign = root / "batch_data/store_id=s005/part-0.parquet"
    pq.write_table(
        pa.table({"date": [LAST], "sales": [66.0], "open": [1.0], "promo": [0.0]}), foreign
    )
    orphan = root / f"results/parts/as_of={LAST}/{'ab' * 16}-0.parquet"
    orphan.parent.mkdir(parents=True, exist_ok=True)
    orphan.write_bytes(b"x")
    age(root)


def age(root: Path) -> None:
    """Make every file and folder old, so that clean-up may delete it."""
    old = time.time() - _OLD
    for path in root.rglob("*"):
        os.utime(path, (old, old))


def reached(storage: Storage) -> dict[str, Any]:
    """What the pointers and the tables reach, without what differs between equal runs."""
    current, _ = pointer.read(storage)
    views = {}
    for as_of, name in {None: current.current, **current.dates}.items():
        entry = current.entry(name or "")
        if entry is None:
            continue
        shop = _shop(storage)
        table = releases.load(storage, entry.release, entry.sha256).stores
        unlike = ["run_id", "generated_at", "parts", "attempt", "table_version"]
        views[str(as_of)] = (
            table.drop_columns(unlike).to_pylist(),
            shop.all_rows(entry.release).to_pylist(),
            receipts.read(storage, entry.as_of, entry.run_id).exit_code,
        )
    histories = open_histories(storage)
    rows = []
    for file in histories.files.to_pylist():
        table = read_table(storage, file["path"], file["bytes"])
        rows += [
            (
                file["store_id"],
                *(str(value) for name, value in row.items() if name != "delivered_at"),
            )
            for row in table.to_pylist()
        ]
    return {
        "views": views,
        "as_of": None if current.current_entry is None else current.current_entry.as_of,
        "bad": len(current.bad),
        "hold": current.hold_through,
        "scored": sorted(current.accuracy),
        "rows": sorted(rows),
        "newest": histories.newest_sales,
        "context": open_context(storage).descriptions,
        "models": [promotion.version for promotion in registry.history(storage)],
        "raw": sorted(info.key for info in storage.list(keys.RAW_DATA)),
    }


def in_fork(call: Callable[[], Any]) -> tuple[int, str]:
    """The exit code of a fork that makes the call, and what it returned, as text."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.close(read_end)
        try:
            text, code = repr(call()), 0
        except BaseException as error:  # noqa: BLE001 - it is printed
            text, code = f"{type(error).__name__}: {error}", 1
        with os.fdopen(write_end, "w", encoding="utf-8") as pipe:
            pipe.write(text)
        os._exit(code)
    os.close(write_end)
    with os.fdopen(read_end, encoding="utf-8") as pipe:
        text = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


def kill_at(number: int, root: Path, temporary: Path) -> Callable[[], int]:
    """Install a hook that ends the process before the change `number`; returns their count."""
    count = 0

    def is_change(event: str, arguments: tuple[Any, ...]) -> bool:
        if event in _CHANGES:
            paths = arguments
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING:
            paths = arguments[:1]
        else:
            return False
        return any(
            isinstance(path, str | os.PathLike)
            and os.fspath(path).startswith((str(root), str(temporary)))
            for path in paths
        )

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if is_change(event, arguments):
            count += 1
            if count == number:
                os._exit(KILLED)

    sys.addaudithook(hook)
    return lambda: count


@dataclass
class KillCounts:
    """The tries of a command: `kills` at so many changes, and the sentences about what failed."""

    command: str
    changes: int = 0
    kills: int = 0
    left: int = 0
    failures: list[str] = field(default_factory=list)


def try_command(command: str, prepared: Path, scratch: Path, every: int) -> KillCounts:
    """Kill the command before every `every`-th of its changes, and give it again."""
    counts = KillCounts(command)
    command_call = COMMANDS[command]
    temporary = scratch / "tmp"
    root = scratch / "bucket"

    def fresh() -> None:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(prepared, root, copy_function=shutil.copy2)
        temporary.mkdir()

    def do(number: int) -> int:
        tempfile.tempdir = str(temporary)
        changes = kill_at(number, root, temporary)
        command_call(open_bucket(str(root)))
        return changes()

    fresh()
    code, text = in_fork(lambda: do(0))
    if code:
        counts.failures.append(f"undisturbed: {text}")
        return counts
    counts.changes = int(text)
    code, expected = in_fork(lambda: reached(open_bucket(str(root))))
    if code:
        counts.failures.append(f"undisturbed: {expected}")
        return counts
    for number in range(1, counts.changes + 1, every):
        fresh()
        code, text = in_fork(lambda n=number: do(n))  # type: ignore[misc]
        if code != KILLED:
            continue
        counts.kills += 1
        code, text = in_fork(lambda: do(0))
        if code:
            counts.failures.append(f"change {number}: given again: {text}")
            continue
        counts.left += bool(_temporary_files(scratch))
        for failure in _failures(root, temporary, scratch, expected):
            counts.failures.append(f"change {number}: {failure}")
    return counts


def _failures(root: Path, temporary: Path, scratch: Path, expected: str) -> Iterator[str]:
    """What is wrong after the command was given again, and after a clean-up of aged files."""
    code, actual = in_fork(lambda: reached(open_bucket(str(root))))
    if code or actual != expected:
        yield _difference(expected, actual)
    age(scratch)
    code, text = in_fork(lambda: _clean_in(root, temporary))
    if code:
        yield f"the clean-up failed: {text}"
    if files := _temporary_files(scratch):
        yield f"left after a clean-up: {files[:3]}"


def _clean_in(root: Path, temporary: Path) -> None:
    tempfile.tempdir = str(temporary)
    clean_up(open_bucket(str(root)), datetime.now(UTC) + timedelta(seconds=1))


def _temporary_files(scratch: Path) -> list[str]:
    """Temporary files of the bucket, without locks, and whatever is in the temporary directory."""
    bucket = [
        path
        for path in (scratch / "bucket").rglob(".storecast-*")
        if not path.name.endswith(".lock")
    ]
    return [str(path.relative_to(scratch)) for path in [*bucket, *(scratch / "tmp").iterdir()]]


def _difference(expected: str, actual: str) -> str:
    at = next(
        (k for k, pair in enumerate(zip(expected, actual, strict=False)) if len(set(pair)) > 1), 0
    )
    return f"expected …{expected[max(0, at - 60) : at + 60]}…, found …{actual[at : at + 60]}…"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("commands", nargs="*", default=list(COMMANDS))
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        prepared = Path(name, "prepared")
        prepared.mkdir()
        code, text = in_fork(lambda: prepare(prepared))
        if code:
            sys.stdout.write(f"{text}\n")
            return 1
        sys.stdout.write("| command | changes | kills | left temporary files | wrong |\n")
        sys.stdout.write("|---|---|---|---|---|\n")
        for command in options.commands:
            counts = try_command(command, prepared, Path(name, "try"), options.every)
            failed += len(counts.failures)
            sys.stdout.write(
                f"| `{counts.command}` | {counts.changes} | {counts.kills} | {counts.left}"
                f" | {len(counts.failures)} |\n"
            )
            sys.stdout.write("".join(f"  {failure}\n" for failure in counts.failures[:5]))
            sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
