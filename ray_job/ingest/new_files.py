"""What an ingest has to read: new objects of raw_data/, and the files of its command."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date

from ray_job.bucket.storage import Storage
from ray_job.data.manifest import KnownFile
from ray_job.ingest.reading.contents import without_repeated
from ray_job.ingest.reading.deliveries import (
    Upload,
    fetch_files,
    files_to_upload,
    list_new_objects,
)
from ray_job.ingest.reading.raw_files import RawFile
from ray_job.ingest.reading.workspace import Workspace
from ray_job.ingest.versions import resolve_versions
from ray_job.progress import Progress
from ray_job.settings import Settings


@dataclass(frozen=True, slots=True)
class NewFiles:
    """Files to read, the oldest objects first, then the files to upload.

    `repeated` are files that bring nothing new, each with the key of the file that has its rows.
    """

    files: list[RawFile]
    repeated: list[tuple[RawFile, str]]
    warnings: list[str]


def find_new_files(
    storage: Storage,
    settings: Settings,
    workspace: Workspace,
    known: Mapping[str, KnownFile],
    command: Upload,
    left_out: Collection[str],
    progress: Progress,
    today: date,
) -> NewFiles:
    """Fetch what is new in raw_data/ into the workspace's folder, and take the command's files.

    `known` are the files of earlier ingests by key, `left_out` the keys of objects not to read,
    `today` the date where the stores are. Raises BadFilesError and InputError.
    """
    pending = files_to_upload(storage, command, known, workspace.folder)
    objects = list_new_objects(storage, known, left_out)
    with progress.stage("fetch", len(objects), "files") as stage:
        fetched = fetch_files(storage, objects, known, workspace.folder, stage)
    files = [*fetched, *pending]
    staying, keys_of_repeated = without_repeated(files, known)
    repeated = [
        (file, keys_of_repeated[file.name])
        for file in files
        if file.name in keys_of_repeated and file not in staying
    ]
    warnings = [
        f"{file.name} has the same content as {key}, which was ingested before: nothing new"
        for file, key in repeated
    ]
    versions = resolve_versions(storage, settings, staying, known, workspace.folder, today)
    return NewFiles(
        versions.files, [*repeated, *versions.repeated], [*warnings, *versions.warnings]
    )
