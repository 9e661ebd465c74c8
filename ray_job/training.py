"""Fitting the default model on a panel: what it is trained on, and how it is calibrated.

Training asks the same question as the nightly run, of past days: the features as of day a, the
sales of day a + h. Nothing after the as-of of the training is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from ray_job.bucket.errors import InputError
from ray_job.context import Context, Flags, Ints
from ray_job.features import Inputs, feature_names, features_at, summarise
from ray_job.panel import Floats, Floats32, Panel
from ray_job.settings import Settings

WARM_UP_DAYS = 84
"""As-ofs with less history than this would teach what no nightly run meets."""


@dataclass(frozen=True, slots=True)
class Examples:
    """m past questions with their answers."""

    names: list[str]
    features: Floats32
    """(m, F)"""
    sales: Floats
    series: Ints
    """The series' place in the panel."""
    as_of: Ints
    target: Ints
    """Days as ordinals."""

    @property
    def days_ahead(self) -> Ints:
        return self.target - self.as_of

    def first(self, rows: int) -> Examples:
        return Examples(
            self.names,
            self.features[:rows],
            self.sales[:rows],
            self.series[:rows],
            self.as_of[:rows],
            self.target[:rows],
        )

    def where(self, chosen: Flags) -> Examples:
        return Examples(
            self.names,
            self.features[chosen],
            self.sales[chosen],
            self.series[chosen],
            self.as_of[chosen],
            self.target[chosen],
        )


def scored(panel: Panel) -> Flags:
    """(n, d): the days that a forecast can be trained on or judged by.

    The series was open and its sales are known; days on which the whole store sold nothing tell
    that it was shut, whatever `open` says.
    """
    known = ~np.isnan(panel.sales)
    opened = panel.known_ahead.get("open")
    if opened is not None:
        known &= opened[:, : panel.sales.shape[1]] != 0
    _, store = np.unique(panel.store_ids.astype(np.str_), return_inverse=True)
    sold = np.zeros((int(store.max(initial=-1)) + 1, panel.sales.shape[1]), dtype=np.bool_)
    np.logical_or.at(sold, store, panel.sales > 0)
    return known & sold[store]


def training_set(
    panel: Panel, as_of: date, context: Context, inputs: Inputs, settings: Settings
) -> Examples:
    """Past days up to `as_of`, each with random days ahead, about `settings.training.rows` rows.

    The same arguments give the same rows. Raises InputError where there is nothing to train on.
    """
    rng = np.random.default_rng(settings.training.seed)
    past = panel.until(as_of)
    answers = scored(past)
    days = past.sales.shape[1]
    starts = range(WARM_UP_DAYS - 1, days - 1)
    per_day = answers.sum(axis=0)
    one_each = sum(int(per_day[start + 1]) for start in starts)
    if not one_each:
        raise InputError(
            f"there is nothing to train on up to {as_of}: fewer than {WARM_UP_DAYS + 1} days"
        )
    wanted = settings.training.rows / one_each
    questions = []
    for start in starts:
        possible = min(inputs.horizon, days - 1 - start)
        number = max(1, int(wanted) + int(rng.random() < wanted % 1))
        ahead = rng.permutation(possible)[:number] + 1
        series = np.flatnonzero(rng.random(past.n_series) < wanted)
        questions.append((start, sorted(int(h) for h in ahead), series))
    return _ask(panel, answers, questions, context, inputs, settings)


def _ask(
    panel: Panel,
    answers: Flags,
    questions: Sequence[tuple[int, Sequence[int], Ints]],
    context: Context,
    inputs: Inputs,
    settings: Settings,
) -> Examples:
    """The examples of (column of the as-of, days ahead, series); only scored days are answers."""
    names = feature_names(inputs)
    room = sum(
        int(answers[series, start + ahead].sum())
        for start, aheads, series in questions
        for ahead in aheads
    )
    found = Examples(
        names=names,
        features=np.empty((room, len(names)), dtype=np.float32),
        sales=np.empty(room),
        series=np.empty(room, dtype=np.int64),
        as_of=np.empty(room, dtype=np.int64),
        target=np.empty(room, dtype=np.int64),
    )
    filled = 0
    for start, aheads, series in questions:
        as_of = panel.first_day + timedelta(days=start)
        known = panel.window(as_of, settings.lookback_days, inputs.horizon)
        if len(series) < panel.n_series:
            known = known.take(series)
        summary = summarise(known, context, inputs)
        enough = summary.enough(settings.run.minimum_history_days, settings.run.fallback_after_days)
        for ahead in aheads:
            target = as_of + timedelta(days=ahead)
            chosen = answers[series, start + ahead] & enough
            rows = slice(filled, filled + int(chosen.sum()))
            found.features[rows] = features_at(summary, target, context)[chosen]
            found.sales[rows] = panel.sales[series[chosen], start + ahead]
            found.series[rows] = series[chosen]
            found.as_of[rows] = as_of.toordinal()
            found.target[rows] = target.toordinal()
            filled = rows.stop
    return found.first(filled)
