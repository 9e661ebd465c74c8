"""`storecast`: the command line. Composes the commands; turns errors into exit codes."""

from __future__ import annotations

import logging
import os
import sys

import typer

from ray_job.bucket.errors import CorruptError, InputError, StorecastError, TransientError
from ray_job.cli import demo, inspect, kubernetes, maintenance, models, nightly, quality, tokens

EXIT_CODES: tuple[tuple[type[Exception], int], ...] = (
    (InputError, 2),
    (CorruptError, 2),
    (TransientError, 75),
    (StorecastError, 1),
)
"""The first class that fits. Anything else is a defect, and Python shows where."""

app = typer.Typer(
    name="storecast",
    help="Every night, the next days' sales of every store.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for part in (demo, nightly, models, quality, inspect, maintenance, kubernetes, tokens):
    app.registered_commands += part.app.registered_commands


def main() -> None:
    """Run a command and exit with its code."""
    # Threads of OpenMP that wait by spinning take the processors from those that work, where the
    # machine is shared or the container has fewer of them than the machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logging.getLogger("ray_job").setLevel(logging.INFO)
    try:
        app()
    except StorecastError as error:
        sys.stderr.write(f"storecast: {error}\n")
        sys.exit(next(code for kind, code in EXIT_CODES if isinstance(error, kind)))


if __name__ == "__main__":
    main()
