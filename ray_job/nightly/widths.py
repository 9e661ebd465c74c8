"""The widths of a night's intervals, from the scores of the days before it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import date, timedelta
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_job.bucket import widths as kept_widths
from ray_job.bucket.errors import (
    AccessRefusedError,
    CorruptError,
    InputError,
    NotFoundError,
    StorageError,
)
from ray_job.bucket.pointer import Pointer
from ray_job.bucket.storage import Storage
from ray_job.bucket.widths import CALIBRATED, IntervalWidths, KeptWidths
from ray_job.evaluation import scoring
from ray_job.model.adaptive import NOTHING_SCORED, DayOfScores, after_day, calibrated_bounds
from ray_job.model.intervals import Calibration
from ray_job.nightly.item_scores import ItemScores

_log = logging.getLogger(__name__)

_COUNTED = timedelta(days=28)
"""Scores of older target dates are not counted."""
_NIGHTS = 7
"""So many as-ofs before this one may have the widths that this one continues."""


def widths_of_night(
    storage: Storage,
    current: Pointer,
    as_of: date,
    model_version: str,
    items: ItemScores,
    *,
    keep: bool,
) -> KeptWidths:
    """The widths that were kept for the as-of and the model, else those that follow from scores.

    With `keep`, new ones are kept, if the storage takes them. They continue those of the newest
    as-of before, by every target date up to the as-of that was scored since. Only forecasts of this
    model count: another one's calibration says nothing about this one's. `items` scores a sample of
    items. Objects that are damaged, or that access is refused to, are left out, with a warning;
    where that is the as-of's own, the intervals are as they were calibrated.
    """
    try:
        existing = kept_widths.read(storage, as_of, model_version)
        if existing is None:
            before = _before(storage, current, as_of, model_version)
            existing = _continued(storage, current, before, as_of, items)
            if keep:
                existing = _kept(storage, existing)
    except (CorruptError, AccessRefusedError) as error:
        _log.warning("the intervals of this night are as they were calibrated: %s", error)
        return KeptWidths(as_of=as_of, model_version=model_version)
    return existing


def _kept(storage: Storage, widths: KeptWidths) -> KeptWidths:
    """What is kept for the as-of from now on. Who may not write goes on with its own widths."""
    try:
        return kept_widths.keep(storage, widths)
    except StorageError as error:
        _log.warning("the widths of this night's intervals are not kept: %s", error)
        return widths


def published_widths(storage: Storage) -> Callable[[date, str], IntervalWidths]:
    """A function that returns the widths of an as-of and a model; each is read once."""

    @cache
    def read(as_of: date, model_version: str) -> IntervalWidths:
        try:
            kept = kept_widths.read(storage, as_of, model_version)
        except (CorruptError, AccessRefusedError):
            kept = None
        return CALIBRATED if kept is None else kept.widths

    return read


def _before(storage: Storage, current: Pointer, as_of: date, model_version: str) -> KeptWidths:
    """The widths of the newest published as-of before, for the same model."""
    earlier = sorted((night for night in current.dates if night < as_of), reverse=True)
    for night in earlier[:_NIGHTS]:
        try:
            kept = kept_widths.read(storage, night, model_version)
        except (CorruptError, AccessRefusedError) as error:
            _log.warning("the widths of %s are left out: %s", night, error)
            continue
        if kept is not None:
            return kept
    return KeptWidths(as_of=as_of, model_version=model_version)


def _continued(
    storage: Storage, current: Pointer, before: KeptWidths, as_of: date, items: ItemScores
) -> KeptWidths:
    counted = {day for day in before.counted if day > as_of - _COUNTED}
    widths = before.widths
    for target in sorted(current.accuracy):
        if target in counted or not as_of - _COUNTED < target <= as_of:
            continue
        try:
            scores = scoring.read(storage, current.accuracy[target])
        except (CorruptError, NotFoundError, AccessRefusedError) as error:
            _log.warning("the widths do not count the scores of %s: %s", target, error)
            continue
        counted.add(target)
        day = _scored_day(scores, before.model_version, items.calibration)
        day = day.and_also(_item_scores(items, target, scores, before.model_version))
        widths = after_day(widths, day, items.horizon)
    return KeptWidths(
        as_of=as_of,
        model_version=before.model_version,
        widths=widths,
        counted=tuple(sorted(counted)),
    )


def _item_scores(
    items: ItemScores, target: date, scores: pa.Table, model_version: str
) -> DayOfScores:
    """The scores of items, as far as they can be read: they are no reason to fail a night."""
    of_model = pc.equal(scores["model_version"], model_version)
    several = scores.filter(pc.and_(of_model, pc.greater(scores["items"], 1)))
    stores = pc.unique(several["store_id"]).to_pylist()
    try:
        return items.of_day(target, stores, model_version)
    except (CorruptError, InputError, NotFoundError, StorageError) as error:
        _log.warning("the widths do not count the items of %s: %s", target, error)
        return NOTHING_SCORED


def _scored_day(scores: pa.Table, model_version: str, calibration: Calibration) -> DayOfScores:
    """The scores of this model's forecasts, with the bounds that the calibration alone gives."""
    rows = scores.filter(pc.equal(scores["model_version"], model_version))
    predicted, actual, lower, upper, narrow, wide = (
        rows[name].to_numpy()
        for name in (
            "predicted",
            "actual",
            "lower_80",
            "upper_80",
            "lower_factor",
            "upper_factor",
        )
    )
    factors = np.stack([narrow, wide])
    lower, upper = calibrated_bounds(predicted, lower, upper, factors, calibration)
    return DayOfScores(
        days_ahead=rows["days_ahead"].to_numpy().astype(np.int64),
        actual=actual,
        predicted=predicted,
        lower=lower,
        upper=upper,
        is_total=rows["items"].to_numpy() > 1,
    )
