"""Preparing a run: read the inputs, make the plan, find the parts that exist already."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from ray_job import plan, provenance
from ray_job.bucket import pointer, releases
from ray_job.bucket.errors import (
    CorruptError,
    InputError,
    NotFoundError,
    StorageError,
)
from ray_job.bucket.freshness import Schedule
from ray_job.bucket.lost_pointer import refuse_lost_pointer
from ray_job.bucket.parts import sha256
from ray_job.bucket.pointer import Pointer
from ray_job.bucket.storage import Storage
from ray_job.bucket.widths import KeptWidths
from ray_job.data import parquet, partition
from ray_job.data.context import Context
from ray_job.data.context.tables import ContextTables, open_context
from ray_job.data.histories import Histories, open_histories, resolve_as_of
from ray_job.data.packs.index import index_or_reason
from ray_job.data.store_days import RowMeaning
from ray_job.execution import execute
from ray_job.features.trading import closed_weekdays_of_chain, weekly_data
from ray_job.forecasting.similar import SimilarSales
from ray_job.forecasting.task import RunSpec
from ray_job.model import registry
from ray_job.model.model import ModelDescription, verified
from ray_job.nightly.item_scores import ItemScores
from ray_job.nightly.recent_sales import holiday_flags, read_recent_sales, undelivered_days
from ray_job.nightly.request import RunRequest, requested_as_of
from ray_job.nightly.similar_stores import new_stores, similar_sales
from ray_job.nightly.widths import published_widths, widths_of_night
from ray_job.settings import Settings

CONTEXT_DAYS = timedelta(days=28)
"""The days of context before the as-of that a run reads.

Features use the context up to a week around the target date, so that older weather changes no
chunk.
"""

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A run that is planned and not done yet.

    `table_version` is the version of the table of histories, `store_ids` are all stores in it. The
    files themselves are in the chunks only, since they take much memory.
    """

    table_version: int
    store_ids: list[str]
    tables: ContextTables
    model: ModelDescription
    spec: RunSpec
    planned_chunks: list[execute.PlannedChunk]
    expected: set[str]
    current: Pointer
    widths: KeptWidths
    warnings: tuple[str, ...] = ()

    @property
    def as_of(self) -> date:
        return self.spec.basis.as_of


def new_run_id(as_of: date, now: datetime) -> str:
    """A unique label: as-of, time, random digits."""
    return f"{as_of:%Y%m%d}-{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def nothing() -> None:
    """What an executor that is there at once does before its first task."""


def prepare(
    storage: Storage,
    settings: Settings,
    request: RunRequest,
    now: datetime,
    *,
    expect_work: Callable[[], None] = nothing,
    keep_widths: bool = False,
) -> RunPlan:
    """Read the inputs and plan. Writes nothing but, with `keep_widths`, the widths of intervals.

    `expect_work` is called once it is likely that there will be chunks to forecast: nothing was
    published for the as-of yet, or the caller insists. Raises
    InputError where an input is missing, for unknown stores and for weekly data.
    """
    current, _ = pointer.read(storage)
    refuse_lost_pointer(storage, current)
    requested = requested_as_of(request, current)
    histories = open_histories(storage)
    schedule = Schedule(settings.zone, settings.deadline)
    as_of = resolve_as_of(requested, histories, schedule, now)
    _refuse_unknown_stores(storage, settings, histories, request.stores)
    if as_of not in current.dates or request.force:
        expect_work()
    recent = read_recent_sales(storage, histories.files, as_of)
    weekly = weekly_data(recent.sold, as_of)
    if weekly is not None:
        raise InputError(weekly)
    artifact = registry.load(storage)
    # The workers unpickle the model: scikit-learn takes longer to import than all else here.
    model = verified(artifact.model, artifact.description, artifact.sha256)
    if model.inputs.horizon < settings.horizon:
        raise InputError(
            f"horizon = {settings.horizon}: model {model.version} forecasts"
            f" {model.inputs.horizon} days ahead"
        )
    tables = open_context(storage)
    last = as_of + timedelta(days=settings.horizon)
    context = tables.between(as_of - CONTEXT_DAYS, last, settings.country)
    expected = tables.expected(histories.store_ids)
    undelivered = undelivered_days(recent, holiday_flags(recent, context, settings.country))
    stock = partition.IN_STOCK in histories.columns.names
    reading = RowMeaning(settings.sales.missing_is_zero, undelivered)
    columns = partition.Columns(_trading_columns(model), stock=stock)
    version = model.version
    widths = KeptWidths(as_of=as_of, model_version=version)
    if settings.intervals.adapt:
        items = ItemScores(
            storage=storage,
            current=current,
            files=histories.files,
            columns=columns,
            reading=reading,
            widths=published_widths(storage),
            calibration=model.intervals,
            horizon=settings.horizon,
            zone=settings.zone,
        )
        widths = widths_of_night(storage, current, as_of, version, items, keep=keep_widths)
    similar: dict[str, SimilarSales] = {}
    if settings.run.similar_stores:
        days = settings.run.minimum_history_days
        similar = similar_sales(
            storage,
            histories.files,
            tables,
            new_stores(histories.files, expected, as_of, days),
            as_of,
            reading,
            columns,
        )
    basis = replace(
        _basis(settings, as_of, artifact, context, model.inputs.reach),
        undelivered=undelivered,
        closed_weekdays=closed_weekdays_of_chain(recent.sold, as_of),
        widths="" if widths.widths.is_neutral else sha256(widths.widths.to_bytes()),
        similar={store: sales.digest() for store, sales in similar.items()},
    )
    packs, packs_unread = index_or_reason(storage)
    spec = RunSpec(
        bucket=storage.url,
        basis=basis,
        artifact=artifact,
        context=context,
        settings=settings,
        run_id=new_run_id(as_of, now),
        generated_at=now,
        widths=widths.widths,
        stock=stock,
        similar=similar,
        packs=packs,
    )
    chunks = _plan_chunks(storage, settings, histories, basis, request.stores)
    planned_chunks = execute.with_existing_parts(
        storage, chunks, spec, now, _reachable(storage, current, as_of)
    )
    store_ids = histories.store_ids
    # Planning a million files takes three times the memory of its result, which Arrow would keep.
    pa.default_memory_pool().release_unused()
    return RunPlan(
        table_version=histories.version,
        store_ids=store_ids,
        tables=tables,
        model=model,
        spec=spec,
        planned_chunks=planned_chunks,
        expected=expected,
        current=current,
        warnings=_warnings(histories, packs_unread),
        widths=widths,
    )


def _warnings(histories: Histories, packs_unread: str | None) -> tuple[str, ...]:
    """What somebody should look at. It does not stop the run."""
    sentences = (histories.foreign_files.sentence(), packs_unread)
    return tuple(sentence for sentence in sentences if sentence)


def is_hindsight(run_plan: RunPlan, settings: Settings, now: datetime) -> bool:
    """Whether the run has knowledge that nobody had on the evening of its as-of.

    This is so if its first target date is over, since its weather is then observed and not
    forecast, or if its model was trained on later days.
    """
    is_over = now.astimezone(settings.zone).date() > run_plan.as_of + _DAY
    observed = is_over and run_plan.tables.weather is not None
    return observed or run_plan.model.as_of > run_plan.as_of


def _refuse_unknown_stores(
    storage: Storage, settings: Settings, histories: Histories, stores: Sequence[str] | None
) -> None:
    """Raise InputError for a store without a history, unless it is new in the stores table."""
    unknown = set(stores or ()) - set(histories.store_ids)
    if unknown and settings.run.similar_stores:
        unknown -= open_context(storage).expected(())
    if unknown:
        raise InputError(f"--stores: store {min(unknown)!r} has no history")


def _reachable(storage: Storage, current: Pointer, as_of: date) -> set[str]:
    """The keys of the parts that the release of this as-of refers to."""
    name = current.dates.get(as_of)
    entry = None if name is None else current.entry(name)
    if entry is None:
        return set()
    references = pc.list_flatten(
        releases.load(storage, entry.release, entry.sha256).stores["parts"]
    )
    return set(pc.struct_field(references, "part").to_pylist())


def _basis(
    settings: Settings, as_of: date, artifact: registry.Artifact, context: Context, reach: int
) -> plan.Basis:
    """What all predictions depend on, beside histories. `reach` is the model's."""
    return plan.Basis(
        as_of=as_of,
        horizon=settings.horizon,
        lookback_days=settings.lookback_days,
        model=artifact.sha256,
        context=context.digest,
        settings=provenance.settings_digest(settings),
        code=provenance.code_digest(),
        reach=reach,
    )


def _plan_chunks(
    storage: Storage,
    settings: Settings,
    histories: Histories,
    basis: plan.Basis,
    stores: Sequence[str] | None,
) -> list[plan.Chunk]:
    """The chunks of a run."""
    files = plan.relevant(histories.files, basis, stores)
    new = [store for store in basis.similar if stores is None or store in stores]
    files = plan.with_new_stores(files, new) if new else files
    oversized = plan.oversized(files, settings.plan)
    groups = {store: _row_groups(storage, path) for store, path in oversized.items()}
    return plan.make(files, basis, settings.plan, groups)


def _trading_columns(model: ModelDescription) -> tuple[str, ...]:
    """`open` and `promo`, if the model reads them: similar stores are read as their chunks are."""
    inputs = model.inputs
    numbers = [name for name in inputs.known_ahead if name not in inputs.categories]
    return tuple(name for name in numbers if name in ("open", "promo"))


def _row_groups(storage: Storage, path: str) -> list[plan.RowGroup]:
    """The row groups of a file; an empty list where it cannot be read.

    The store is then one chunk, whose outcome has the reason.
    """
    try:
        return parquet.row_groups(storage, path)
    except (CorruptError, NotFoundError, StorageError):
        return []
