"""Versions of one file of transactions: which earlier rows a new file contains and replaces.

The rows of transactions are added up. A file that is given again under its name, after it has grown
or was corrected, must not count twice what it gave before. What is replaced in place, in raw_data/
or batch_data/, takes the place of what it was. A file of a command is uploaded beside the earlier
one, and its rows say what it is.
"""

# `workspace` quotes all names and texts in SQL.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replace_fields
from datetime import date
from enum import Enum, auto
from pathlib import Path

from ray_job.bucket.errors import CorruptError, NotFoundError, StorageError
from ray_job.bucket.storage import Storage
from ray_job.data.manifest import KnownFile
from ray_job.ingest.reading.batch import RawBatch, read_batch
from ray_job.ingest.reading.contents import begins_with, keys_of_versions
from ray_job.ingest.reading.deliveries import local_copy, problem_of_object
from ray_job.ingest.reading.groups import FILE, MOMENT
from ray_job.ingest.reading.kinds import SALES
from ray_job.ingest.reading.raw_files import BadFilesError, RawFile, ending_of
from ray_job.ingest.reading.workspace import Workspace, open_workspace
from ray_job.progress import SilentProgress
from ray_job.settings import Settings


class Relation(Enum):
    """What a file is to an earlier one of its name."""

    REPLACES = auto()
    """On the days of both it has all rows of the earlier one."""
    ADDS = auto()
    """They have no row in common."""
    UNKNOWN = auto()
    """It has some of the earlier one's rows, and lacks others of the same days."""


@dataclass(slots=True)
class Versions:
    """New files, with the keys that they replace; `repeated` have only rows of another one."""

    files: list[RawFile] = field(default_factory=list)
    repeated: list[tuple[RawFile, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def resolve_versions(
    storage: Storage,
    settings: Settings,
    files: Sequence[RawFile],
    known: Mapping[str, KnownFile],
    folder: Path,
    today: date,
) -> Versions:
    """Compare each new file of transactions with the earlier files of its name.

    `known` are the files of earlier ingests by key, `folder` is a directory for temporary files,
    `today` the date where the stores are. Raises BadFilesError for files of which their rows do not
    tell whether they replace or add.
    """
    result = Versions()
    by_base = keys_of_versions(known)
    problems: dict[str, str] = {}
    for file in files:
        if file.kind != SALES or file.replaces or settings.sales.rows != "transactions":
            result.files.append(file)
            continue
        earlier = [key for key in by_base.get(file.base, ()) if key != file.key]
        if not file.in_place:
            comparison = _Comparison(settings, today, file)
            earlier = [
                key
                for key in earlier
                if comparison.replaces(_fetched(storage, key, folder, file), key, problems)
            ]
            for other in [each for each in result.files if each.base == file.base]:
                if comparison.replaces(other, other.name, problems, is_new=True):
                    result.files.remove(other)
                    result.repeated.append((other, file.key))
            result.warnings += comparison.warnings
        result.files.append(replace_fields(file, replaced_keys=tuple(earlier)))
    if problems:
        raise BadFilesError(problems)
    return result


def _sentence(earlier: str) -> str:
    return (
        f"it has some rows of {earlier}, a file of the same name, and lacks others of the same"
        " days: whether its rows are new or correct that file reads in two ways; give it another"
        " name if they are new, or ingest it with --replace, which takes out all earlier rows of"
        " its stores and days"
    )


def _fetched(storage: Storage, key: str, folder: Path, file: RawFile) -> RawFile | None:
    """An earlier raw file as a local file, None if it is not in the bucket any more.

    Raises BadFilesError for the new `file` if the earlier one cannot be read.
    """
    path = folder / f"version-{len(list(folder.iterdir()))}{ending_of(key)}"
    try:
        path = local_copy(storage, key, path)
        size = path.stat().st_size
    except (NotFoundError, FileNotFoundError):
        return None
    except (StorageError, CorruptError) as error:
        problem = problem_of_object(storage, key, error)
        raise BadFilesError({file.name: f"{key}, a file of the same name: {problem}"}) from error
    return RawFile(key, key, path, "", size, None)


@dataclass(slots=True)
class _Comparison:
    """Comparisons of one new file with others of its name."""

    settings: Settings
    today: date
    file: RawFile
    warnings: list[str] = field(default_factory=list)
    days: dict[str, tuple[date, date]] = field(default_factory=dict)

    def replaces(
        self, earlier: RawFile | None, name: str, problems: dict[str, str], *, is_new: bool = False
    ) -> bool:
        """Whether the new file has the rows of the earlier one, which is gone if it is None.

        Of a file that `is_new`, too, it has to have all days. Adds what is wrong to `problems`.
        """
        if earlier is None:
            return True
        relation = self._relation(earlier)
        if relation is Relation.REPLACES and is_new and self._leaves_days(earlier):
            relation = Relation.UNKNOWN
        if relation is Relation.UNKNOWN:
            problems[self.file.name] = _sentence(name)
        return relation is Relation.REPLACES

    def _relation(self, earlier: RawFile) -> Relation:
        if begins_with(self.file.path, earlier.path):
            return Relation.REPLACES
        try:
            with open_workspace(self.settings) as workspace:
                return self._relation_of_rows(workspace, earlier)
        except BadFilesError:
            return Relation.ADDS  # the ingest refuses what it cannot read

    def _leaves_days(self, earlier: RawFile) -> bool:
        """Whether the earlier file has days before the first or after the last of the new one."""
        if earlier.name not in self.days:
            return False
        first, last = self.days[earlier.name]
        own_first, own_last = self.days[self.file.name]
        return first < own_first or own_last < last

    def _relation_of_rows(self, workspace: Workspace, earlier: RawFile) -> Relation:
        stage = SilentProgress().stage("read")
        both = [replace_fields(earlier, name=earlier.key), self.file]
        with stage as running:
            batch = read_batch(workspace, self.settings, both, {}, running, self.today)
        numbers = {file.key: number for number, file in batch.files.items()}
        for table, file in (("earlier", earlier), ("newer", self.file)):
            workspace.run(
                f"CREATE TEMP TABLE {table} AS SELECT *, count(*) AS n"
                f" FROM ({_rows_sql(batch, numbers[file.key])}) GROUP BY ALL"
            )
            [bounds] = workspace.run(f"SELECT min(date), max(date) FROM {table}")
            if bounds[0] is not None:
                self.days[file.name] = bounds
        [(days, missing, common, corrected)] = workspace.run(_COUNTS)
        if not days:
            return Relation.ADDS
        if not missing:
            return Relation.REPLACES
        if common or corrected:
            return Relation.UNKNOWN
        self.warnings.append(
            f"{self.file.name} has other rows of the same days than {earlier.key}, a file of the"
            " same name: they are added to each other; if it corrects that file, ingest it with"
            " --replace"
        )
        return Relation.ADDS


def _rows_sql(batch: RawBatch, number: int) -> str:
    """SQL of what tells the rows of a file apart."""
    group = next(each for each in batch.groups if each.files.first <= number < each.files.end)
    sales = group.values.get("sales", "NULL")
    return (
        f"SELECT store_id, item_id, date, {MOMENT} AS moment, ({sales})::DOUBLE AS sales"
        f" FROM {group.files.table} WHERE {FILE} = {number}"
    )


_COUNTS = """
WITH e AS (SELECT * FROM earlier WHERE date IN (SELECT date FROM newer)),
pairs AS (
  SELECT e.n, coalesce(newer.n, 0) AS m, e.moment IS NOT NULL AND EXISTS (
    FROM newer k WHERE k.store_id = e.store_id AND k.item_id = e.item_id AND k.moment = e.moment
  ) AS has_key
  FROM e LEFT JOIN newer ON e.store_id = newer.store_id AND e.item_id = newer.item_id
    AND e.date = newer.date AND e.moment IS NOT DISTINCT FROM newer.moment
    AND e.sales IS NOT DISTINCT FROM newer.sales
)
SELECT count(*), coalesce(sum(greatest(n - m, 0)), 0), coalesce(sum(least(n, m)), 0),
  count(*) FILTER (WHERE n > m AND has_key) FROM pairs
"""
"""Of the earlier rows on the new file's days: how many different ones there are, how many the new
file lacks, how many it has, and how many it lacks although it has the same store, item and moment.
"""
