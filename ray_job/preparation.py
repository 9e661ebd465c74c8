"""Before a run: read the inputs, make the plan, see what is there already."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from ray_job import execution, inputs, registry
from ray_job.bucket import pointer, releases
from ray_job.bucket.errors import InputError
from ray_job.bucket.freshness import Schedule
from ray_job.bucket.pointer import Pointer
from ray_job.bucket.storage import Storage
from ray_job.model import Model
from ray_job.model import load as load_model
from ray_job.request import Request
from ray_job.settings import Settings
from ray_job.work import Work

CONTEXT_DAYS = timedelta(days=28)
"""Features look at the context a week around the target date; older weather changes no chunk."""

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that is planned and not yet done."""

    table_version: int
    """Of the histories, whose files the chunks name: a list of all would be held twice."""
    store_ids: list[str]
    """Of all histories."""
    tables: inputs.ContextTables
    model: Model
    work: Work
    todos: list[execution.Todo]
    expected: set[str]
    current: Pointer

    @property
    def as_of(self) -> date:
        return self.work.basis.as_of


def new_run_id(as_of: date, now: datetime) -> str:
    """A label: as-of, time, random."""
    return f"{as_of:%Y%m%d}-{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def prepare(storage: Storage, settings: Settings, request: Request, now: datetime) -> Prepared:
    """Read the inputs and plan. Writes nothing. Raises InputError where something is missing."""
    current, _ = pointer.read(storage)
    histories = inputs.open_histories(storage)
    schedule = Schedule(settings.zone, settings.deadline)
    as_of = inputs.resolve_as_of(_given(request, current), histories, schedule, now)
    artifact = registry.load(storage)
    model = load_model(artifact.model, artifact.description, artifact.sha256)
    if model.description.inputs.horizon < settings.horizon:
        raise InputError(
            f"horizon = {settings.horizon}: model {model.description.version} forecasts"
            f" {model.description.inputs.horizon} days ahead"
        )
    tables = inputs.open_context(storage)
    last = as_of + timedelta(days=settings.horizon)
    context = tables.between(as_of - CONTEXT_DAYS, last, settings.country)
    basis = inputs.basis(settings, as_of, artifact, context, model.description.inputs.reach)
    work = Work(
        bucket=storage.url,
        basis=basis,
        artifact=artifact,
        context=context,
        settings=settings,
        run_id=new_run_id(as_of, now),
        generated_at=now,
    )
    chunks = inputs.make_plan(storage, settings, histories, basis, request.stores)
    todos = execution.look(storage, chunks, work, now, _reachable(storage, current, as_of))
    store_ids = histories.store_ids
    # To plan a million files takes three times what is left of them, and Arrow would keep it.
    pa.default_memory_pool().release_unused()
    return Prepared(
        table_version=histories.version,
        store_ids=store_ids,
        tables=tables,
        model=model,
        work=work,
        todos=todos,
        expected=tables.expected(store_ids),
        current=current,
    )


def is_hindsight(prepared: Prepared, settings: Settings, now: datetime) -> bool:
    """Whether the run knows what nobody could know on the evening of its as-of.

    Its first target date was over, so that the weather is observed and not forecast; or its model
    has seen later days.
    """
    over = now.astimezone(settings.zone).date() > prepared.as_of + _DAY
    observed = over and prepared.tables.weather is not None
    return observed or prepared.model.description.as_of > prepared.as_of


def _given(request: Request, current: Pointer) -> date | None:
    if request.as_of != "current":
        return request.as_of
    entry = current.current_entry
    if entry is None:
        raise InputError("--as-of current: nothing was published yet")
    return entry.as_of


def _reachable(storage: Storage, current: Pointer, as_of: date) -> set[str]:
    """The parts that the release of this as-of names."""
    name = current.dates.get(as_of)
    entry = None if name is None else current.entry(name)
    if entry is None:
        return set()
    references = pc.list_flatten(
        releases.load(storage, entry.release, entry.sha256).stores["parts"]
    )
    return set(pc.struct_field(references, "part").to_pylist())
