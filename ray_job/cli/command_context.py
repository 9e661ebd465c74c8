"""What all commands share: their options, the settings and the bucket, and how answers are told."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from ray_job.bucket.errors import InputError
from ray_job.bucket.storage import Storage, open_bucket
from ray_job.progress import Progress, progress_for
from ray_job.settings import Settings, load

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
    """A command's surroundings. `now` is the only reading of the clock."""

    settings: Settings
    json: bool
    now: datetime
    progress: Progress

    @property
    def yesterday(self) -> date:
        """The last day that is complete, where the stores are."""
        return self.now.astimezone(self.settings.zone).date() - timedelta(days=1)

    def storage(self, *, create: bool = False) -> Storage:
        """The bucket; with `create` a directory is made where there is none."""
        url = self.settings.bucket
        if create and url.strip() and "://" not in url:
            Path(url).mkdir(parents=True, exist_ok=True)
        return open_bucket(url)

    def tell(self, document: BaseModel | dict[str, Any]) -> None:
        """Print the JSON document, where one was asked for."""
        if self.json:
            told = document.model_dump(mode="json") if isinstance(document, BaseModel) else document
            sys.stdout.write(json.dumps(told, ensure_ascii=False, indent=1, default=str) + "\n")


def edge(bucket: str | None, settings: Path | None, *, as_json: bool) -> CommandContext:
    return CommandContext(
        settings=load(settings, bucket=bucket),
        json=as_json,
        now=datetime.now(UTC),
        progress=progress_for(sys.stderr, time.monotonic),
    )


def day(text: str | None, option: str = "--as-of") -> date | None:
    """A date as it is given on the command line. Raises InputError."""
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{option} {text}: this is no date (YYYY-MM-DD)") from error


def listed(text: str | None) -> list[str] | None:
    """Store ids separated by commas. Raises InputError where there is none among them."""
    if text is None:
        return None
    stores = [part.strip() for part in text.split(",") if part.strip()]
    if not stores:
        raise InputError("--stores: no store id is given")
    return stores
