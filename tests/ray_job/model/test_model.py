from __future__ import annotations

import io
import logging
import pickle
from datetime import UTC, date, datetime
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression

from ray_job.bucket.errors import CorruptError, InputError
from ray_job.features import Inputs, feature_names
from ray_job.model.model import Model, TrainedOn, describe, dump, load

INPUTS = Inputs(known_ahead=("open", "promo"), horizon=7, reach=7)
NAMES = feature_names(INPUTS)


def description(**changes):
    return describe(
        **{
            "version": "v1",
            "created_at": datetime(2025, 1, 2, tzinfo=UTC),
            "as_of": date(2025, 1, 1),
            "inputs": INPUTS,
            "trained_on": TrainedOn(
                first=date(2024, 1, 1), last=date(2025, 1, 1), rows=3, stores=1
            ),
            "target": "sales",
            **changes,
        }
    )


def constant(value):
    return DummyRegressor(strategy="constant", constant=value).fit(
        np.zeros((1, len(NAMES))), np.array([value])
    )


def matrix(**columns):
    values = np.zeros((2, len(NAMES)), dtype=np.float32)
    for name, value in columns.items():
        values[:, NAMES.index(name)] = value
    return values


def test_an_artifact_comes_back_as_it_was():
    data, described = dump(constant(12.5), description())
    model = load(data, described.to_bytes(), described.sha256)
    assert model.description == described
    assert model.predict(matrix()).tolist() == [12.5, 12.5]


def test_dumping_twice_gives_the_same_bytes():
    assert dump(constant(1.0), description())[0] == dump(constant(1.0), description())[0]


class RunsCode:
    """An object that writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_bytes_of_another_sha256_are_never_unpickled(tmp_path):
    trap = tmp_path / "unpickled"
    buffer = io.BytesIO()
    joblib.dump(RunsCode(trap), buffer)
    _, described = dump(constant(1.0), description())
    with pytest.raises(CorruptError, match=r"not '[0-9a-f]{64}' as its description says"):
        load(buffer.getvalue(), described.to_bytes(), described.sha256)
    assert not trap.exists()
    pickle.loads(pickle.dumps(RunsCode(trap)))  # noqa: S301 - it shows that the trap works
    assert trap.exists()


def test_the_pointer_must_agree_with_the_description():
    data, described = dump(constant(1.0), description())
    with pytest.raises(CorruptError, match="as the pointer says"):
        load(data, described.to_bytes(), "0" * 64)


def test_a_feature_that_does_not_exist_is_refused_before_unpickling(tmp_path):
    trap = tmp_path / "unpickled"
    data, described = dump(RunsCode(trap), description(features=["level", "moon"]))
    with pytest.raises(InputError, match="model v1: there is no feature 'moon'"):
        load(data, described.to_bytes(), described.sha256)
    assert not trap.exists()


def test_another_library_version_is_logged(caplog):
    data, described = dump(constant(1.0), description())
    older = described.model_copy(update={"libraries": {**described.libraries, "numpy": "1.0"}})
    with caplog.at_level(logging.WARNING):
        load(data, older.to_bytes(), older.sha256)
    assert "model v1 was made with numpy 1.0" in caplog.text


def test_a_log_ratio_is_added_to_the_baseline():
    model = Model.of(constant(np.log(1.5)), description(target="log_ratio"))
    predicted = model.predict(matrix(baseline=np.log(101)))
    assert predicted == pytest.approx(np.full(2, 101 * 1.5 - 1), rel=1e-6)


def test_sales_are_never_negative():
    assert Model.of(constant(-5.0), description()).predict(matrix()).tolist() == [0.0, 0.0]


def test_another_regressor_gets_its_features_in_its_order():
    own = LinearRegression().fit(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), [0.0, 1.0, 10.0])
    model = Model.of(own, description(features=["promo", "level"]))
    assert model.predict(matrix(level=2.0, promo=1.0)) == pytest.approx([21.0, 21.0])
    low, high = model.interval(matrix(), np.full(2, 21.0))
    assert (low < 21.0).all()
    assert (high > 21.0).all()


def test_no_rows_make_no_predictions():
    assert Model.of(constant(1.0), description()).predict(matrix()[:0]).tolist() == []
