"""Models that differ from their descriptions, and predictions that must not be published."""

import hashlib
import io
import logging
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.dummy import DummyRegressor
from typer.testing import CliRunner

from ray_job.__main__ import app
from ray_job.bucket import keys, receipts
from ray_job.bucket.errors import CorruptError, InputError, UnusableModelError
from ray_job.model import registry
from ray_job.model.model import ModelDescription
from ray_job.model.train import train_model
from ray_job.progress import SilentProgress
from tests.processes.kill_commands import FEW_FILES
from tests.support.faults import Trap
from tests.support.shop import DAY, LAST, generations, midnight, sales_row


def described(shop, **changes):
    description = ModelDescription.from_bytes(
        shop.storage.read(keys.model_description("tiny")), "model.json"
    )
    return description.model_copy(update={"version": "other", **changes})


def install(shop, regressor, **changes):
    """Register a regressor with a description and make it current, without any check."""
    buffer = io.BytesIO()
    joblib.dump(regressor, buffer)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    description = described(shop, **{"sha256": digest, **changes})
    registry.register(shop.storage, "other", buffer.getvalue(), description.to_bytes())
    registry.promote(shop.storage, "other", midnight(LAST))


def constant(value):
    regressor = DummyRegressor(strategy="constant", constant=0.0)
    regressor.fit(np.zeros((1, 1)), [0.0])
    regressor.constant_ = np.array([[value]])
    return regressor


def trap(mark: Path):
    return Trap(f"open({str(mark)!r}, 'x').close()")


def test_an_artifact_of_another_digest_is_not_unpickled(shop, tmp_path):
    mark = tmp_path / "ran"
    buffer = io.BytesIO()
    joblib.dump(trap(mark), buffer)
    shop.tamper(keys.model_artifact("tiny"), lambda _: buffer.getvalue())
    before = generations(shop.storage)
    with pytest.raises(CorruptError, match="sha256"):
        shop.run()
    assert not mark.exists()
    assert generations(shop.storage) == before


def test_a_digest_that_the_description_does_not_list(shop, tmp_path):
    """The bytes that were promoted are not those of the description."""
    mark = tmp_path / "ran"
    install(shop, trap(mark), sha256="0" * 64)
    with pytest.raises(CorruptError, match="its description says"):
        shop.run()
    assert not mark.exists()


def test_a_feature_that_does_not_exist(shop, tmp_path):
    mark = tmp_path / "ran"
    install(shop, trap(mark), features=("baseline", "moon_phase"))
    with pytest.raises(InputError, match="there is no feature 'moon_phase'"):
        shop.run()
    assert not mark.exists()


def test_another_library_version_is_logged(shop, caplog):
    libraries = described(shop).libraries
    install(shop, constant(0.0), libraries={**libraries, "scikit-learn": "0.1"})
    with caplog.at_level(logging.WARNING):
        shop.run()
    assert "was made with scikit-learn 0.1" in caplog.text


@pytest.mark.parametrize("value", [float("nan"), 50.0])
def test_absurd_predictions_fail_their_stores_and_not_the_night(shop, value):
    """NaN, or e^50 times the usual sales: each store fails, and a gate refuses the night."""
    shop.run(LAST - DAY)
    pointer = shop.storage.read(keys.POINTER)
    install(shop, constant(value))
    receipt = shop.run()
    assert (receipt.status, receipt.exit_code) == ("refused", 3)
    assert {failure.reason_code for failure in receipt.failures} == {"absurd"}
    assert "the model predicts" in receipt.failures[0].reason
    assert len(receipt.failures) == 8  # the closed store and the one on the simple rule are good
    assert shop.storage.read(keys.POINTER) == pointer


@pytest.mark.parametrize(
    ("target", "value", "passes"),
    [("sales", 0.0, False), ("log_ratio", 0.0, True), ("sales", 20.0, False)],
)
def test_a_constant_model(shop, target, value, passes):
    """The level gate refuses a model that predicts one number, unless the number is right."""
    install(shop, constant(value), target=target)
    receipt = shop.run()
    assert (receipt.status == "published") is passes
    assert [gate.name for gate in receipt.gates if not gate.passed] == ([] if passes else ["level"])


class _Raising(DummyRegressor):
    def predict(self, X, return_std=False):  # noqa: ARG002, N803
        raise ValueError("this model cannot predict")


def test_a_model_that_raises(shop):
    shop.run(LAST - DAY)
    install(shop, _Raising())
    receipt = shop.run()
    assert receipt.status == "refused"
    assert {failure.reason_code for failure in receipt.failures} == {"error"}
    assert receipt.failures[0].reason == "ValueError: this model cannot predict"


class _Hungry(DummyRegressor):
    def predict(self, X, return_std=False):  # noqa: ARG002, N803
        raise MemoryError


def test_a_worker_without_memory(shop):
    """A chunk is halved until it fits. The next run retries a store that did not fit alone."""
    shop.run(LAST - DAY)
    install(shop, _Hungry())
    receipt = shop.run()
    assert {failure.reason_code for failure in receipt.failures} == {"memory"}
    again = shop.run()
    digests = {chunk.digest for chunk in receipt.chunks}
    assert not any(
        chunk.adopted for chunk in again.chunks if chunk.digest in digests and chunk.stores > 1
    )


class Vanished:
    """A regressor whose class is gone when the model is loaded."""

    def predict(self, matrix):
        return np.zeros(len(matrix))


def vanish(monkeypatch):
    """The class is not importable any more, as in an image that lacks its library."""
    monkeypatch.delattr("tests.failures.test_models.Vanished")


def test_a_model_whose_class_is_missing(shop, monkeypatch):
    install(shop, Vanished())
    vanish(monkeypatch)
    with pytest.raises(UnusableModelError, match=r"model other cannot be loaded: AttributeError"):
        shop.run()
    assert shop.pointer.current is None
    (receipt,) = receipts.of_night(shop.storage, LAST)
    assert (receipt.status, receipt.exit_code, receipt.published) == ("failed", 2, False)
    assert "Vanished" in receipt.message
    assert "storecast promote" in receipt.message


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [({"trees": []}, "a dict has no method `predict`"), (None, "a NoneType has no method")],
)
def test_an_artifact_that_is_no_regressor(shop, kept, sentence):
    install(shop, kept)
    with pytest.raises(UnusableModelError, match=sentence):
        shop.run()


def test_promote_with_force_loads_the_model_first(shop, monkeypatch):
    install(shop, Vanished())
    registry.promote(shop.storage, "tiny", midnight(LAST))
    vanish(monkeypatch)
    before = generations(shop.storage)
    monkeypatch.setenv("STORECAST_BUCKET", shop.storage.url)
    refused = CliRunner().invoke(app, ["promote", "other", "--force"])
    assert isinstance(refused.exception, UnusableModelError)
    assert "model other cannot be loaded" in str(refused.exception)
    assert generations(shop.storage) == before


def test_a_training_whose_version_is_taken_gets_one_of_its_own(shop):
    """Two that begin in one second: the second one failed after all its work."""
    early = [LAST - back * DAY for back in range(101, 141)]
    shop.deliver([sales_row(f"s00{n}", day) for n in (2, 3) for day in early], name="early")
    now = midnight(LAST)
    usual = f"{LAST:%Y%m%d}-{now:%Y%m%dT%H%M%S}"
    shop.storage.create(keys.model_artifact(usual), b"of the other one")
    report = train_model(shop.storage, FEW_FILES, as_of=LAST, now=now, progress=SilentProgress())
    assert report.version == f"{usual}-2"
    loaded = registry.load(shop.storage, report.version)
    assert ModelDescription.from_bytes(loaded.description, "m").version == report.version
    assert shop.storage.read(keys.model_artifact(usual)) == b"of the other one"
