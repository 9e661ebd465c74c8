"""`storecast`: the command line. Composes the commands and turns errors into exit codes."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from pathlib import Path

import typer

from ray_job.bucket.errors import DISK_FULL, StorecastError, exit_code
from ray_job.cli import (
    check,
    demo,
    inspect,
    kubernetes,
    maintenance,
    models,
    nightly,
    quality,
    tokens,
)
from ray_job.interruption import Interrupted, signals_raise

app = typer.Typer(
    name="storecast",
    help="Every night, the next days' sales of every store.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (demo, check, nightly, models, quality, inspect, maintenance, kubernetes, tokens):
    app.registered_commands += group.app.registered_commands


def main() -> None:
    """Run a command and exit with its code."""
    # By default OpenMP's threads wait by spinning, which takes processors from working threads on a
    # shared machine and in a container that has fewer processors than its machine. Without any, the
    # kernel lets them sleep between all steps of a tree, for up to half of a training's time.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if sys.stdout is None:  # it was closed by whoever calls
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the end
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logging.getLogger("ray_job").setLevel(logging.INFO)
    try:
        with signals_raise():
            app()
    except StorecastError as error:
        sys.stderr.write(f"storecast: {error}\n")
        sys.exit(exit_code(error))
    except OSError as error:
        # What files of the bucket and of a workspace raise is an error of ours by now.
        if error.errno not in DISK_FULL or error.filename is not None:
            raise
        sys.stderr.write(
            f"storecast: standard output cannot be written: {error.strerror}; what the command did"
            " is done, and `storecast releases` shows what is current\n"
        )
        sys.exit(1)
    except Interrupted as end:
        sys.stderr.write(f"storecast: {end}\n")
        sys.exit(end.exit_code)


def run() -> None:
    """`main` of a process of its own, which ends at once.

    Python would first free, for 0.4 s, what ends with the process. It still ends by itself where
    something is left to do: a thread works, or the output cannot be written.
    """
    try:
        main()
    except SystemExit as end:
        threads = set(threading.enumerate()) - {threading.main_thread()}
        if any(not thread.daemon for thread in threads):
            raise
        atexit._run_exitfuncs()  # noqa: SLF001 - as Python itself does, and has no other name for
        try:
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
        except OSError:
            raise end from None
        os._exit(int(end.code or 0))


if __name__ == "__main__":
    run()
