"""`python -m tests.processes.kills [COMMAND…] [--at-most N] [--from N] [--to N] [--log FILE]`.

A command is killed (by `_exit`, so that nothing cleans up) right before each call that changes a
file: opened to be written, linked, renamed, removed, or a folder made; and in the middle of each
write. A preloaded library (`kill_at_change.c`) sees these calls, also those of delta-rs, Arrow and
DuckDB. Without a C compiler only those of Python are seen. `submit` changes the cluster: it is
killed before each of its requests. Then the same command is given again. The bucket must be as
after one undisturbed command, the exit code 0, and after a clean-up with aged files no temporary
file may be left. Prints a table of what was tried, and exits with 1 if anything was wrong.

Each try runs in a fork of this process, which has loaded everything and has started no thread.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

from ray_job.operations.clean_up import clean_up
from tests.processes.kill_commands import COMMANDS, Command, Place, age, prepare

KILLED = 77
SOURCE = Path(__file__).with_name("kill_at_change.c")
_PRELOADED = "STORECAST_TEST_PRELOADED"
_CHANGES = ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_LOG = re.compile(r"\d{20}\.(json|checkpoint\.parquet)|_last_checkpoint")
"""Whatever else lies in the log of a table was left by a commit that was killed."""


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


class PreloadedLibrary:
    """Counts the changes of all libraries of the process, and ends it before one of them."""

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)

    def watch(self, number: int, place: Place) -> None:
        self._library.watch(str(place.root).encode(), str(place.temporary).encode(), number)

    def change(self) -> None:
        self._library.change()

    @property
    def count(self) -> int:
        return int(self._library.changes())


@dataclass
class PythonsChanges:
    """The same where there is no C compiler: of Python's own calls alone."""

    count: int = 0
    number: int = 0

    def watch(self, number: int, place: Place) -> None:
        self.count, self.number = 0, number
        folders = (str(place.root), str(place.temporary))

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if self._is_change(event, arguments, folders):
                self.change()

        sys.addaudithook(hook)

    def change(self) -> None:
        self.count += 1
        if self.count == self.number:
            os._exit(KILLED)

    def _is_change(self, event: str, arguments: tuple[Any, ...], folders: tuple[str, ...]) -> bool:
        if event in _CHANGES:
            paths = arguments
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING:
            paths = arguments[:1]
        else:
            return False
        return any(
            isinstance(path, str | os.PathLike) and os.fspath(path).startswith(folders)
            for path in paths
        )


def changes() -> PreloadedLibrary | PythonsChanges:
    path = os.environ.get(_PRELOADED)
    return PythonsChanges() if path is None else PreloadedLibrary(path)


def kill_at(number: int, place: Place) -> Callable[[], int]:
    """Let this process end before the change `number`; returns their count so far."""
    counted = changes()
    counted.watch(number, place)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "http.client.send":
            counted.change()

    sys.addaudithook(hook)
    return lambda: counted.count


@dataclass
class KillCounts:
    """The tries of a command: `kills` at so many changes, and the sentences about what failed."""

    command: str
    changes: int = 0
    kills: int = 0
    left: int = 0
    failures: list[str] = field(default_factory=list)


def try_command(
    name: str,
    prepared: Path,
    scratch: Path,
    at_most: int | None,
    among: range,
    log: TextIO | None = None,
) -> KillCounts:
    """Kill the command before each of its changes that are `among` these, and give it again.

    With `at_most` it is killed so often, before changes that are evenly spread. `log` gets a line
    for each kill, so that a part of a long try counts, too.
    """
    counts = KillCounts(name)
    command = COMMANDS[name]
    place = Place(scratch)
    _fresh(command, prepared, place)
    with command.around(place):
        code, text = in_fork(lambda: _do(command, place, 0))
        counts.changes = int(text) if not code else 0
        if not code:
            code, text = in_fork(lambda: command.reached(place))
    if code:
        counts.failures.append(f"undisturbed: {text}")
        return counts
    expected = text
    for number in _spread(counts.changes, at_most or counts.changes):
        if number not in among:
            continue
        _fresh(command, prepared, place)
        with command.around(place):
            code, text = in_fork(lambda n=number: _do(command, place, n))  # type: ignore[misc]
            if code != KILLED:
                continue
            counts.kills += 1
            code, text = in_fork(lambda: _do(command, place, 0))
            if code:
                problems = [f"given again: {text}"]
            else:
                counts.left += bool(_temporary_files(place))
                problems = list(_failures(command, place, expected))
            counts.failures += [f"change {number}: {problem}" for problem in problems]
            if log is not None:
                log.write(f"{name}\t{number}\t{counts.changes}\t{counts.left}\t{problems}\n")
                log.flush()
    return counts


def _spread(changes: int, tries: int) -> list[int]:
    """So many different numbers from 1 to `changes`, evenly spread; all if there are fewer."""
    return sorted({1 + (2 * k + 1) * changes // (2 * tries) for k in range(tries)})


def _fresh(command: Command, prepared: Path, place: Place) -> None:
    shutil.rmtree(place.folder, ignore_errors=True)
    shutil.copytree(prepared, place.root, copy_function=shutil.copy2)
    place.temporary.mkdir()
    command.arrange(place.root)


def _do(command: Command, place: Place, number: int) -> int:
    tempfile.tempdir = str(place.temporary)
    count = kill_at(number, place)
    command.call(place)
    return count()


def _failures(command: Command, place: Place, expected: str) -> Iterator[str]:
    """What is wrong after the command was given again, and after a clean-up of aged files."""
    code, actual = in_fork(lambda: command.reached(place))
    if code or actual != expected:
        yield _difference(expected, actual)
    age(place.folder)
    code, text = in_fork(lambda: _clean_in(place))
    if code:
        yield f"the clean-up failed: {text}"
    if files := _temporary_files(place):
        yield f"left after a clean-up: {files[:3]}"


def _clean_in(place: Place) -> None:
    tempfile.tempdir = str(place.temporary)
    clean_up(place.storage, datetime.now(UTC) + timedelta(seconds=1))


def _temporary_files(place: Place) -> list[str]:
    """Temporary files of the bucket, without locks, and whatever is in the temporary directory."""
    bucket = [
        path
        for path in place.root.rglob("*")
        if (path.name.startswith(".storecast-") and path.name[11:] not in ("folder.lock", "demo"))
        or (path.parent.name == "_delta_log" and not _LOG.fullmatch(path.name))
    ]
    return [str(path.relative_to(place.folder)) for path in [*bucket, *place.temporary.iterdir()]]


def _difference(expected: str, actual: str) -> str:
    at = next(
        (k for k, pair in enumerate(zip(expected, actual, strict=False)) if len(set(pair)) > 1), 0
    )
    return f"expected …{expected[max(0, at - 60) : at + 60]}…, found …{actual[at : at + 60]}…"


def preload(folder: Path) -> None:
    """Start this program again with the library; returns where it cannot be made."""
    compiler = shutil.which("cc")
    if compiler is None or _PRELOADED in os.environ:
        return
    library = folder / "kill_at_change.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    variables = {"LD_PRELOAD": str(library), _PRELOADED: str(library)}
    command = [sys.executable, "-m", "tests.processes.kills", *sys.argv[1:]]
    sys.exit(subprocess.run(command, env=os.environ | variables, check=False).returncode)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("commands", nargs="*", default=list(COMMANDS))
    parser.add_argument("--at-most", type=int, help="kills of each command; default: all")
    parser.add_argument("--from", type=int, default=1, dest="first", help="the first change")
    parser.add_argument("--to", type=int, default=sys.maxsize, dest="last", help="the last change")
    parser.add_argument("--log", type=argparse.FileType("a"), help="a file: a line for each kill")
    options = parser.parse_args()
    among = range(options.first, options.last + 1)
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        preload(Path(name))
        prepared = Path(name, "prepared")
        prepared.mkdir()
        code, text = in_fork(lambda: prepare(prepared))
        if code:
            sys.stdout.write(f"{text}\n")
            return 1
        sys.stdout.write("| command | changes | kills | left temporary files | wrong |\n")
        sys.stdout.write("|---|---|---|---|---|\n")
        for command in options.commands:
            counts = try_command(
                command, prepared, Path(name, "try"), options.at_most, among, options.log
            )
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
