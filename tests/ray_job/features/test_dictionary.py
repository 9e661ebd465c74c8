"""The dictionary of features: complete, without extra entries, true about NaN, and written out."""

from __future__ import annotations

import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_job.data.context import Context
from ray_job.data.panel import Panel
from ray_job.features import Inputs, feature_names, features
from ray_job.features.dictionary import (
    DOCUMENT,
    NEVER,
    dictionary,
    families,
    tables,
    with_dictionary,
)
from tests.support import panels

ROOT = Path(__file__).parents[3]
RICH = panels.panel(stores=3, days=40)
INPUTS = panels.inputs(RICH, panels.context(RICH)).model_copy(
    update={"items": ("another",), "stores": ("another",)}
)
NAMES = feature_names(INPUTS)
MEANINGS = dictionary(INPUTS)
NO_HOLIDAY_NEAR = date(2025, 8, 5)
"""A target date without a public holiday within 28 days in the regions of the context."""


def test_every_feature_has_an_entry_and_every_entry_a_feature():
    assert INPUTS.store_numbers
    assert INPUTS.store_texts
    assert INPUTS.weather
    assert set(INPUTS.known_ahead) > {"open", "promo"}
    named = [name for family in families() for name, _ in family.members(INPUTS)]
    assert sorted(named) == sorted(NAMES)


def test_every_family_has_a_feature():
    assert [family.name for family in families() if not list(family.members(INPUTS))] == []


def test_entries_are_filled_in():
    for name, entry in MEANINGS.items():
        for text in (entry.meaning, entry.unit, entry.nan_when):
            assert text, name
            assert "{" not in text, name


def test_a_family_names_its_parameter():
    assert MEANINGS["residual_last_25"].meaning == (
        "mean residual of the last 25 days that count, of the last 210 days"
    )
    assert MEANINGS["promo_since"].nan_when == "`promo` has the same value on the 14 days before"


def test_inputs_without_columns_have_no_features_of_columns():
    bare = Inputs(known_ahead=(), horizon=7, reach=7)
    assert set(dictionary(bare)) == set(feature_names(bare))


def test_the_document_has_the_present_dictionary():
    document = (ROOT / DOCUMENT).read_text(encoding="utf-8")
    assert tables() in document
    assert with_dictionary(document) == document


def test_the_command_writes_the_document(tmp_path):
    document = (ROOT / DOCUMENT).read_text(encoding="utf-8")
    written = tmp_path / DOCUMENT
    written.parent.mkdir()
    written.write_text(document.replace(tables(), "an older table\n"), encoding="utf-8")
    subprocess.run(
        [sys.executable, "-m", "ray_job.features.dictionary"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert written.read_text(encoding="utf-8") == document


def test_a_document_without_markers_is_refused():
    with pytest.raises(ValueError, match="docs/models.md lacks one of the lines"):
        with_dictionary("# Models\n")


def panel(rng, *, days, unknown, constant, as_of):
    """Two series: sales and plans at random, a share of them unknown, or constant plans."""
    first_day = as_of - timedelta(days=days - 1)
    known = {}
    for name in INPUTS.known_ahead:
        values = rng.integers(0, 2, (2, days + INPUTS.reach)).astype(np.float32)
        if constant:
            values[:] = 1.0
        values[rng.random(values.shape) < unknown] = np.nan
        known[name] = values
    sales = np.where(rng.random((2, days)) < 0.3, 0.0, rng.uniform(-5.0, 500.0, (2, days)))
    sales[rng.random(sales.shape) < unknown] = np.nan
    return Panel(
        store_ids=np.array(["s000", "unheard of"], dtype=object),
        item_ids=np.array(["", ""], dtype=object),
        first_day=first_day,
        sales=sales,
        known_ahead={} if unknown == 1.0 and not constant else known,
    )


def context(rng, as_of, *, unknown):
    """One store with a region; weather of some days."""
    first_day, last_day = as_of - timedelta(days=30), as_of + timedelta(days=20)
    days = [first_day + timedelta(days=k) for k in range(51) if rng.random() >= unknown]
    return Context.build(
        pa.table({"store_id": ["s000"], "region": ["BY"], "size": [5.0], "format": ["small"]}),
        pa.table(
            {
                "region": pa.array(["BY"] * len(days), pa.string()),
                "date": pa.array(days, pa.date32()),
                "temperature": pa.array(rng.normal(size=len(days)), pa.float64()),
            }
        ),
        None,
        country="DE",
        first_day=first_day,
        last_day=last_day,
    )


def nan_names(matrix):
    return {name for name, column in zip(NAMES, matrix.T, strict=True) if np.isnan(column).any()}


@given(
    seed=st.integers(0, 2**32 - 1),
    days=st.integers(1, 500),
    unknown=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    constant=st.booleans(),
    ahead=st.integers(1, 7),
    as_of=st.dates(date(2016, 1, 1), date(2030, 12, 31)),
)
@settings(max_examples=60, deadline=None)
def test_what_is_never_nan_is_never_nan(seed, days, unknown, constant, ahead, as_of):
    rng = np.random.default_rng(seed)
    matrix = features(
        panel(rng, days=days, unknown=unknown, constant=constant, as_of=as_of),
        as_of,
        as_of + timedelta(days=ahead),
        context(rng, as_of, unknown=unknown),
        INPUTS,
    )
    assert {name for name in nan_names(matrix) if MEANINGS[name].nan_when == NEVER} == set()


def test_all_other_features_can_be_nan():
    """Nothing is delivered, or plans never change: each feature with a condition is NaN in one."""
    as_of = NO_HOLIDAY_NEAR - timedelta(days=1)
    rng = np.random.default_rng(1)
    nan = set()
    for constant in (False, True):
        matrix = features(
            panel(rng, days=60, unknown=0.0 if constant else 1.0, constant=constant, as_of=as_of),
            as_of,
            NO_HOLIDAY_NEAR,
            context(rng, as_of, unknown=1.0),
            INPUTS,
        )
        nan |= nan_names(matrix)
    assert nan == {name for name in NAMES if MEANINGS[name].nan_when != NEVER}
