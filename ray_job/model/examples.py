"""Examples: past days of series, with the features as of a night before them, and their sales.

An example of the training set has the features as of a past day a, and the sales of day a + h: this
is what the nightly run predicts. Nothing after the as-of of the training is used.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np

from ray_job.bucket.errors import InputError
from ray_job.data.context import Context, Flags, Ints
from ray_job.data.panel import Floats, Floats32, Panel
from ray_job.features import Inputs, feature_names, features_at, summarise
from ray_job.features.naive import RULES, naive_forecasts
from ray_job.features.trading import ended
from ray_job.progress import Progress, SilentProgress
from ray_job.settings import Settings

SILENT: Progress = SilentProgress()

WARM_UP_DAYS = 84
"""Past as-ofs with less history than this are not used, since no nightly run has so little."""

_NEXT_DAY = 1 / 3
"""The share of sales of which the forecast one day ahead is the example, instead of a random one.

It is the one that is used most, and what was sold yesterday says more about it than about others.
"""
_FEWEST_CALIBRATION_DAYS = 7
_CALIBRATION_ROWS = 350_000
_BYTES_PER_VALUE = 17
"""A value of the training set: 4 bytes, again as part of a booster's share, 8 bytes there as
float64, and 1 byte in a bin."""
_BYTES_PER_ROW = 120


_Asked = tuple[int, Ints]
"""A number of days ahead, and the places of the series whose sales of that day are examples."""


@dataclass(frozen=True, slots=True)
class Examples:
    """m past days of series: features and sales."""

    names: list[str]
    features: Floats32
    """(m, F)"""
    sales: Floats
    series: Ints
    """The series' place in the panel."""
    as_of: Ints
    target: Ints
    """Days as ordinals."""
    rules: Mapping[str, Floats] = field(default_factory=dict)
    """The forecasts of the naive rules, each (m,), of held-out days only."""

    @property
    def days_ahead(self) -> Ints:
        return self.target - self.as_of

    def column(self, name: str) -> Floats32:
        return self.features[:, self.names.index(name)]

    def at(self, rows: Ints | slice) -> Examples:
        return Examples(
            self.names,
            self.features[rows],
            self.sales[rows],
            self.series[rows],
            self.as_of[rows],
            self.target[rows],
            {name: values[rows] for name, values in self.rules.items()},
        )


def scored(panel: Panel) -> Flags:
    """(n, d): the days on which a forecast can be trained or judged.

    The series was open and its sales are known. A day on which the whole store sold nothing does
    not count: the store was closed, whatever `open` says.
    """
    known = ~np.isnan(panel.sales)
    is_open = panel.known_ahead.get("open")
    if is_open is not None:
        known &= is_open[:, : panel.sales.shape[1]] != 0
    _, store = np.unique(panel.store_ids.astype(np.str_), return_inverse=True)
    sold = np.zeros((int(store.max(initial=-1)) + 1, panel.sales.shape[1]), dtype=np.bool_)
    np.logical_or.at(sold, store, panel.sales > 0)
    return known & sold[store]


def training_set(
    panel: Panel,
    as_of: date,
    context: Context,
    inputs: Inputs,
    settings: Settings,
    progress: Progress = SILENT,
) -> Examples:
    """Examples of past days up to `as_of`, with random days ahead: `rows_within` at most.

    Every day occurs equally often, so that none of the few days before a yearly holiday is left
    out, and each sale at most once: boosters learn sales by heart that they see with several
    numbers of days ahead. The sales of one day have different numbers of days ahead: a day that
    comes once a year would else be known from one distance only. The same arguments give the same
    rows. Raises InputError where there is nothing to train on.
    """
    rng = np.random.default_rng(settings.training.seed)
    past = panel.until(as_of)
    answers = scored(past)
    one_each = int(answers[:, WARM_UP_DAYS:].sum())
    if not one_each:
        raise InputError(
            f"there is nothing to train on up to {as_of}: fewer than {WARM_UP_DAYS + 1} days"
        )
    share = min(1.0, rows_within(settings, inputs) / one_each)
    by_start: dict[int, list[_Asked]] = {}
    for target in range(WARM_UP_DAYS, past.sales.shape[1]):
        possible = min(inputs.horizon, target - WARM_UP_DAYS + 1)
        ahead = rng.integers(possible, size=past.n_series) + 1
        ahead[rng.random(past.n_series) < _NEXT_DAY] = 1
        taken = answers[:, target] & (rng.random(past.n_series) < share)
        for number in range(1, possible + 1):
            series = np.flatnonzero(taken & (ahead == number))
            if len(series):
                by_start.setdefault(target - number, []).append((number, series))
    samples = sorted(by_start.items(), key=lambda sample: sample[0])
    return _make_examples(panel, samples, context, inputs, settings, progress)


def calibration_days(panel: Panel, as_of: date, settings: Settings) -> int:
    """The number of last days that are held out: the setting, but at most a third of all days.

    All days are those that can be examples: the first days of the panel, and of a series, cannot.
    Raises InputError where this is less than a week.
    """
    end = panel.column(as_of) + 1
    known = ~np.isnan(panel.sales[:, :end]).all(axis=0)
    first = int(np.argmax(known)) if known.any() else end
    without_examples = max(WARM_UP_DAYS, first + settings.run.minimum_history_days)
    days = min(settings.training.calibration_days, (end - without_examples) // 3)
    if days < _FEWEST_CALIBRATION_DAYS:
        needed = without_examples - first + 3 * _FEWEST_CALIBRATION_DAYS
        raise InputError(
            f"there is too little history to train on up to {as_of}: fewer than {needed} days"
        )
    return days


def calibration_set(
    panel: Panel,
    as_of: date,
    days: int,
    context: Context,
    inputs: Inputs,
    settings: Settings,
    progress: Progress = SILENT,
) -> Examples:
    """Examples of the last `days` days up to `as_of`, each with every number of days ahead.

    So a difficult week counts equally for all of them. There are about `_CALIBRATION_ROWS` rows:
    for each as-of a random fraction of the stores, with all of their items.
    """
    rng = np.random.default_rng(settings.training.seed)
    past = panel.until(as_of)
    last = past.sales.shape[1] - 1
    first = last - days
    names, store = np.unique(past.store_ids.astype(np.str_), return_inverse=True)
    fraction = _CALIBRATION_ROWS / max(1, past.n_series * days * inputs.horizon)
    answers = scored(past)
    samples = []
    for start in range(first + 1 - inputs.horizon, last):
        chosen = (rng.random(len(names)) < fraction)[store]
        asked = [
            (ahead, np.flatnonzero(chosen & answers[:, start + ahead]))
            for ahead in range(1, inputs.horizon + 1)
            if first < start + ahead <= last
        ]
        samples.append((start, asked))
    return _make_examples(panel, samples, context, inputs, settings, progress, with_rules=True)


def evenly_spaced(rows: Ints, most: int) -> Ints:
    """The rows (n,), or `most` of them at equal distances, so that no season is left out."""
    if len(rows) <= most:
        return rows
    return rows[np.arange(most) * len(rows) // most]


def rows_within(settings: Settings, inputs: Inputs) -> int:
    """The number of examples of a training set: the setting, or what the memory is enough for."""
    size = len(feature_names(inputs)) * _BYTES_PER_VALUE + _BYTES_PER_ROW
    return min(settings.training.rows, int(settings.training.memory_gib * 2**30 / size))


def _make_examples(
    panel: Panel,
    samples: Sequence[tuple[int, Sequence[_Asked]]],
    context: Context,
    inputs: Inputs,
    settings: Settings,
    progress: Progress,
    *,
    with_rules: bool = False,
) -> Examples:
    """The examples of `samples`: the column of each as-of, and what is asked on it.

    The nights are shared out among the processors; each writes rows of its own.
    """
    names = feature_names(inputs)
    counts = [sum(len(series) for _, series in asked) for _, asked in samples]
    begins = np.cumsum([0, *counts])
    n_rows = int(begins[-1])
    examples = Examples(
        names=names,
        features=np.empty((n_rows, len(names)), dtype=np.float32),
        sales=np.empty(n_rows),
        series=np.empty(n_rows, dtype=np.int64),
        as_of=np.empty(n_rows, dtype=np.int64),
        target=np.zeros(n_rows, dtype=np.int64),
        rules={name: np.empty(n_rows) for name in RULES} if with_rules else {},
    )

    def fill(number: int) -> int:
        start, asked = samples[number]
        filled = int(begins[number])
        everyone = np.unique(np.concatenate([series for _, series in asked]))
        if not len(everyone):
            return filled
        as_of = panel.first_day + timedelta(days=start)
        known = panel.window(as_of, settings.lookback_days, inputs.reach)
        if len(everyone) < panel.n_series:
            known = known.take(everyone)
        summary = summarise(known, context, inputs)
        enough = summary.enough(settings.run.minimum_history_days, settings.run.fallback_after_days)
        enough &= ~ended(known.sales, known.item_ids, known.store_sold(), known.without_stock)
        for ahead, series in asked:
            target = as_of + timedelta(days=ahead)
            places = np.searchsorted(everyone, series)
            chosen = places[enough[places]]
            rows = slice(filled, filled + len(chosen))
            examples.features[rows] = features_at(summary.take(chosen), target, context)
            examples.sales[rows] = panel.sales[everyone[chosen], start + ahead]
            examples.series[rows] = everyone[chosen]
            examples.as_of[rows] = as_of.toordinal()
            examples.target[rows] = target.toordinal()
            if with_rules:
                for name, values in naive_forecasts(known, summary.sales, target).items():
                    examples.rules[name][rows] = values[chosen]
            filled = rows.stop
        return filled

    name = "held-out days" if with_rules else "training set"
    with (
        progress.stage(name, len(samples), "nights") as stage,
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
    ):
        for _ in pool.map(fill, range(len(samples))):
            stage.advance()
    # Series with too little history leave rows empty.
    return examples.at(np.flatnonzero(examples.target))
