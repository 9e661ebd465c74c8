"""The use case: read files as an ingest would, bring nothing in, and say all about them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import chain
from pathlib import Path

from ray_job.bucket import keys
from ray_job.bucket.errors import InputError
from ray_job.ingest.checking.reading import read_files
from ray_job.ingest.checking.settings_text import settings_text
from ray_job.ingest.checking.suggestions import (
    group_of,
    guess_kind,
    shape_of,
    suggest_headers,
    suggest_values,
    with_section,
)
from ray_job.ingest.reading.contents import content_digest, without_repeated
from ray_job.ingest.reading.deliveries import named_paths
from ray_job.ingest.reading.kinds import SALES, kind_of
from ray_job.ingest.reading.raw_files import BadFilesError, RawFile
from ray_job.ingest.reading.workspace import open_workspace, shortage
from ray_job.progress import Progress
from ray_job.settings import Settings

_ROUNDS = 3
"""One refusal may hide another one, so that settings are changed so often."""


@dataclass(slots=True)
class FileCheck:
    """What is known of a file. `refused` are the sentences with which an ingest refuses it."""

    name: str
    kind: str
    rows: int = 0
    stores: int = 0
    items: int = 0
    first_date: date | None = None
    last_date: date | None = None
    refused: list[str] = field(default_factory=list)
    still_refused: list[str] = field(default_factory=list)
    """What is left to correct once the suggested settings are used."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """`settings` is a TOML file with which as much as possible can be read; empty for defaults.

    `changes_settings` tells whether it differs from the settings that were given.
    """

    files: Sequence[FileCheck]
    odd: Sequence[str]
    settings: str
    changes_settings: bool

    @property
    def is_refused(self) -> bool:
        return any(file.refused for file in self.files)


def check_files(
    settings: Settings,
    paths: Sequence[Path],
    *,
    kind: str | None,
    now: datetime,
    progress: Progress,
) -> CheckReport:
    """Check files, or the files in directories, against an empty bucket. Writes nothing.

    `kind` is the kind of all of them, by default what the header of each fits best. Raises
    InputError for a path that is no raw file.
    """
    today = now.astimezone(settings.zone).date()
    kind_of(kind or SALES)
    files = _raw_files(settings, paths, kind)
    checks = {file.name: FileCheck(file.name, file.kind) for file in files}
    staying, repeated = without_repeated(files, {})
    odd = [f"{name} has the same content as {key}: nothing new" for name, key in repeated.items()]
    with progress.stage("check", 3, "steps") as stage:
        as_given = read_files(settings, staying, today)
        stage.advance()
        suggested = _suggested(settings, staying, today)
        stage.advance()
        text = settings_text(suggested)
        changes_settings = text != settings_text(settings)
        as_suggested = read_files(suggested, staying, today) if changes_settings else as_given
        stage.advance()
    for name, check in checks.items():
        check.refused = as_given.refused.get(name, [])
        check.still_refused = as_suggested.refused.get(name, [])
        if figures := as_suggested.figures.get(name):
            check.rows, check.stores, check.items, check.first_date, check.last_date = figures
    return CheckReport(list(checks.values()), [*odd, *as_suggested.odd], text, changes_settings)


def _raw_files(settings: Settings, paths: Sequence[Path], kind: str | None) -> list[RawFile]:
    """The files as an ingest would have them, each of the kind that it probably is."""
    files = []
    for path, name in named_paths(paths, kind or SALES):
        try:
            content, size = content_digest(path), path.stat().st_size
        except OSError as error:
            raise InputError(f"{path}: the file cannot be read: {error.strerror}") from error
        own_kind = kind or SALES
        file = RawFile(keys.raw(own_kind, name), str(path), path, "", size, None, content)
        if kind is None:
            file = replace(file, key=keys.raw(_kind(settings, file), name))
        files.append(file)
    return files


def _kind(settings: Settings, file: RawFile) -> str:
    try:
        with open_workspace(settings) as workspace:
            _, shape, path_headers = shape_of(workspace, settings, file)
    except (BadFilesError, OSError, ValueError):
        return SALES
    return guess_kind([*shape.header, *path_headers])


def _suggested(settings: Settings, files: Sequence[RawFile], today: date) -> Settings:
    """Settings with which as many of the files as possible can be read."""
    suggested = settings
    with open_workspace(settings) as workspace:
        for file in files:
            try:
                shaped, shape, _ = shape_of(workspace, suggested, file)
                changes = suggest_headers(suggested, file.kind, shape)
                suggested = with_section(suggested, file.kind, changes)
                group = group_of(suggested, shaped, shape, today)
                if group is None and file.kind == SALES:
                    # Rows without sales are read if a column of them is known ahead.
                    names = tuple(n for n in shape.header if n)
                    trial = with_section(
                        suggested, SALES, {"known_ahead": _renamed(suggested, names)}
                    )
                    group = group_of(trial, shaped, shape, today)
                if group is not None:
                    changes = suggest_values(workspace, suggested, group)
                    suggested = with_section(suggested, file.kind, changes)
            except (BadFilesError, ValueError):
                continue
            except Exception as error:
                if (storage_error := shortage(workspace.folder, error)) is not None:
                    raise storage_error from error
    return _with_rows(suggested, files, today)


def _renamed(settings: Settings, headers: Sequence[str]) -> tuple[str, ...]:
    names = {header: name for name, header in settings.sales.columns.items()}
    return tuple(name for name in (names.get(h, h) for h in headers) if name != "sales")


def _way_out(settings: Settings, sentences: Sequence[str]) -> dict[str, object]:
    """Changes of the section of sales that refusals name; empty if there are none."""
    text = "\n".join(sentences)
    if 'rows = "transactions"' in text:
        return {"rows": "transactions"}
    if stores := re.findall(r'leave_out_stores = \["(.+?)"\]', text):
        return {"leave_out_stores": (*settings.sales.leave_out_stores, *dict.fromkeys(stores))}
    return {"totals": "leave_out"} if 'totals = "leave_out"' in text else {}


def _with_rows(settings: Settings, files: Sequence[RawFile], today: date) -> Settings:
    """The settings with `rows` and with the columns known ahead, as the files have them."""
    sales = [file for file in files if file.kind == SALES]
    trial = settings
    for file in sales:
        with suppress(BadFilesError), open_workspace(settings) as workspace:
            _, shape, _ = shape_of(workspace, settings, file)
            names = (*trial.sales.known_ahead, *_renamed(settings, shape.header))
            own = ("", *kind_of(SALES).key)
            unique = tuple(name for name in dict.fromkeys(names) if name not in own)
            trial = with_section(trial, SALES, {"known_ahead": unique})
    reading = read_files(trial, sales, today)
    for _ in range(_ROUNDS):
        change = _way_out(settings, list(chain(*reading.refused.values())))
        if change:
            trial = with_section(trial, SALES, change)
            settings = with_section(settings, SALES, change)
            reading = read_files(trial, sales, today)
    extra = tuple(name for name in reading.ahead if name not in settings.sales.known_ahead)
    if not extra:
        return settings
    kept = tuple(name for name in settings.sales.known_ahead if name in reading.ahead)
    return with_section(settings, SALES, {"known_ahead": (*kept, *extra)})
