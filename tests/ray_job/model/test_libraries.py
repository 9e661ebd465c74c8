"""A model's description names the versions of the libraries that its artifact is made with."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

from ray_job import provenance
from ray_job.features import Inputs
from ray_job.model import ensemble, model


def test_the_libraries_that_training_imports_are_in_the_description():
    day = date(2026, 11, 1)
    description = model.describe(
        version="v1",
        created_at=datetime(2026, 11, 2, tzinfo=UTC),
        as_of=day,
        inputs=Inputs(known_ahead=(), horizon=7, reach=7),
        trained_on=model.TrainedOn(first=day, last=day, rows=1, stores=1),
        target="sales",
    )
    libraries = provenance.libraries([Path(ensemble.__file__)])
    assert "scikit-learn" in libraries
    assert set(libraries) <= set(description.libraries)
