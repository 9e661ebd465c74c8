"""What the commands share: their common options, the settings, the bucket, the clock."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_job.bucket.errors import InputError

if TYPE_CHECKING:
    from ray_job.bucket.storage import Storage
    from ray_job.progress import Progress
    from ray_job.settings import Settings

Bucket = Annotated[
    str | None,
    typer.Option(
        "--bucket",
        help="A directory, file://… or gs://name[/prefix]; also from STORECAST_BUCKET.",
        show_default=False,
    ),
]
SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="A TOML file.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Stores = Annotated[
    str | None,
    typer.Option("--stores", help="Only these store ids, separated by commas.", show_default=False),
]
AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        help="The last date whose sales may be used (YYYY-MM-DD). Default: the newest with sales.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The surroundings of one command. `now` is its only reading of the clock."""

    settings: Settings
    json: bool
    now: datetime
    progress: Progress

    def storage(self, *, create: bool = False) -> Storage:
        """The bucket. With `create` a directory that does not exist is made.

        Raises InputError for an address that is no bucket.
        """
        from ray_job.bucket.storage import make_directory, open_bucket

        if create:
            make_directory(self.settings.bucket)
        return open_bucket(self.settings.bucket)

    def print_json(self, document: Mapping[str, Any]) -> None:
        """Print the document on standard output, if the command was called with --json."""
        if self.json:
            text = json.dumps(document, ensure_ascii=False, indent=1, default=str)
            sys.stdout.write(text + "\n")


def open_command(bucket: str | None, settings: Path | None, *, as_json: bool) -> CommandContext:
    """Read the settings and the clock. Raises SettingsError."""
    from ray_job.progress import progress_for
    from ray_job.settings import load

    return CommandContext(
        settings=load(settings, bucket=bucket),
        json=as_json,
        now=datetime.now(UTC),
        progress=progress_for(sys.stderr, time.monotonic),
    )


def parse_date(text: str | None, option: str = "--as-of") -> date | None:
    """A date as it is given on the command line. Raises InputError."""
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{option} {text}: this is no date (YYYY-MM-DD)") from error


def parse_stores(text: str | None) -> list[str] | None:
    """Store ids that are separated by commas. Raises InputError if there is none."""
    if text is None:
        return None
    stores = [part.strip() for part in text.split(",") if part.strip()]
    if not stores:
        raise InputError("--stores: no store id is given; separate store ids by commas")
    return stores
