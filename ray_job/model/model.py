"""The model: a regressor, and the description that gives its numbers a meaning.

An artifact is the regressor as joblib writes it. Unpickling runs code: an artifact is unpickled
only if its sha256 is the one that both its description and the pointer to the model have.
"""

from __future__ import annotations

import hashlib
import io
import logging
import platform
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from importlib.metadata import version
from typing import Literal, Protocol, Self

import joblib
import numpy as np
import numpy.typing as npt
from pydantic import Field

from ray_job.bucket.errors import CorruptError, InputError, UnusableModelError
from ray_job.bucket.records import Record
from ray_job.data.panel import Floats, Floats32
from ray_job.features import Inputs, feature_names
from ray_job.features.kinds import kinds_of
from ray_job.model.blend import Blend
from ray_job.model.intervals import Calibration, series_spread
from ray_job.model.item_levels import ItemLevels

_log = logging.getLogger(__name__)

Target = Literal["log_ratio", "sales", "blend"]
Ints = npt.NDArray[np.int64]
_LIBRARIES = ("scikit-learn", "numpy", "joblib")


class Regressor(Protocol):
    """A fitted regressor of scikit-learn's kind: `predict` takes (n, F) and returns (n,).

    For the target "blend" it returns (n, 3), or (n, 2) without the booster of lags.
    """

    def predict(self, X: Floats32, /) -> npt.NDArray[np.floating]: ...  # noqa: N803


class TrainedOn(Record):
    first: date
    last: date
    rows: int
    stores: int


class ModelDescription(Record):
    """Everything about a model that is known without loading it.

    `target` is what the regressor predicts: "log_ratio" is log(1 + sales) less the feature
    `baseline`, "sales" are the sales themselves, "blend" are the sales by the boosters of
    `ensemble.Ensemble`, which `blend` makes one. `features` are the columns that the regressor
    takes, in their order; each is one of `feature_names(inputs)`.
    """

    version: str
    created_at: datetime
    as_of: date
    target: Target
    features: tuple[str, ...]
    inputs: Inputs
    trained_on: TrainedOn
    intervals: Calibration
    blend: Blend = Blend()
    item_levels: ItemLevels = ItemLevels()
    """What items without history in an old store are forecast by."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """On held-out days before the as-of."""
    libraries: dict[str, str] = Field(default_factory=dict)
    settings_digest: str = ""
    sha256: str = ""
    """Of the artifact; set by `dump`."""


@dataclass(frozen=True, slots=True)
class Model:
    regressor: Regressor
    description: ModelDescription
    columns: npt.NDArray[np.int64]
    """The places of the regressor's features among all features."""
    baseline: int
    spreads: tuple[int, int]
    """The places of the recent spread and of the whole history's spread."""
    days: int
    kind: tuple[int, int]
    """The places of the features that decide the kind of a series."""

    @classmethod
    def of(cls, regressor: Regressor, description: ModelDescription) -> Self:
        """A model. Raises InputError for a feature that does not exist, and names it."""
        place = {name: index for index, name in enumerate(feature_names(description.inputs))}
        for name in description.features:
            if name not in place:
                raise InputError(f"model {description.version}: there is no feature {name!r}")
        return cls(
            regressor=regressor,
            description=description,
            columns=np.array([place[name] for name in description.features], dtype=np.int64),
            baseline=place["baseline"],
            spreads=(place["spread"], place["spread_all"]),
            days=place["days_since_sales"],
            kind=(place["history_days"], place["share_without_sales"]),
        )

    def predict(self, features: Floats32) -> Floats:
        """Sales (n,), at least 0, from rows of `features_at` (n, all features)."""
        if not len(features):
            return np.empty(0)
        columns = features
        if not np.array_equal(self.columns, np.arange(features.shape[1])):
            columns = np.ascontiguousarray(features[:, self.columns])
        predicted = np.asarray(self.regressor.predict(columns), dtype=np.float64)
        target = self.description.target
        if target == "blend":
            days = features[:, self.days].astype(np.float64)
            blend = self.description.blend
            return np.maximum(blend.blended(predicted, self.kinds(features), days), 0.0)
        if target == "log_ratio":
            predicted = np.expm1(predicted + features[:, self.baseline])
        return self.description.intervals.corrected(np.maximum(predicted, 0.0))

    def kinds(self, features: Floats32) -> Ints:
        """The kind of each row's series (n,): places in KINDS."""
        return kinds_of(*(features[:, place] for place in self.kind))

    def rules(self, features: Floats32) -> tuple[npt.NDArray[np.object_], Floats]:
        """(n,) each: the naive rule that serves a row, None for the model; and its factor."""
        days = features[:, self.days].astype(np.float64)
        return self.description.blend.rule_of(self.kinds(features), days)

    def scale(self, features: Floats32, predicted: Floats) -> Floats:
        """The scale of each row's interval (n,), relative to its sales."""
        recent, whole = (features[:, place].astype(np.float64) for place in self.spreads)
        intervals = self.description.intervals
        return intervals.scale_of_kind(
            series_spread(recent, whole), predicted, self.kinds(features)
        )

    def interval(self, features: Floats32, predicted: Floats) -> tuple[Floats, Floats]:
        """The 80 % interval of `predicted`, each bound (n,)."""
        days = features[:, self.days].astype(np.float64)
        scale = self.scale(features, predicted)
        return self.description.intervals.interval(predicted, scale, days)


def describe(
    *,
    version: str,
    created_at: datetime,
    as_of: date,
    inputs: Inputs,
    trained_on: TrainedOn,
    target: Target,
    features: Sequence[str] | None = None,
    intervals: Calibration | None = None,
    blend: Blend | None = None,
    item_levels: ItemLevels | None = None,
    metrics: Mapping[str, float] | None = None,
    settings_digest: str = "",
) -> ModelDescription:
    """The description of a regressor.

    Without `features` the regressor takes all of `feature_names(inputs)`. Without `intervals` the
    intervals are wide and not calibrated.
    """
    return ModelDescription(
        version=version,
        created_at=created_at,
        as_of=as_of,
        target=target,
        features=tuple(feature_names(inputs) if features is None else features),
        inputs=inputs,
        trained_on=trained_on,
        intervals=intervals or Calibration(),
        blend=blend or Blend(),
        item_levels=item_levels or ItemLevels(),
        metrics=dict(metrics or {}),
        libraries=_libraries(),
        settings_digest=settings_digest,
    )


def dump(regressor: Regressor, description: ModelDescription) -> tuple[bytes, ModelDescription]:
    """The artifact's bytes, and the description with their sha256."""
    buffer = io.BytesIO()
    joblib.dump(regressor, buffer, compress=("zlib", 3))
    data = buffer.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    return data, description.model_copy(update={"sha256": digest})


def verified(data: bytes, description: bytes, expected_sha256: str) -> ModelDescription:
    """The description of a model, checked against the bytes of the artifact; nothing is unpickled.

    `expected_sha256` is the sha256 in the pointer. Raises CorruptError where the artifact's sha256
    is not the one in the description and in the pointer, and InputError where the description names
    a feature that does not exist. A library of another version than the one that made the model is
    logged.
    """
    known = ModelDescription.from_bytes(description, "model.json")
    digest = hashlib.sha256(data).hexdigest()
    for source, expected in (("its description", known.sha256), ("the pointer", expected_sha256)):
        if digest != expected:
            raise CorruptError(
                f"model {known.version}: the artifact's sha256 is {digest}, not {expected!r} as "
                f"{source} says"
            )
    Model.of(_Unloaded(), known)
    installed = _libraries()
    for name, version_then in known.libraries.items():
        if installed.get(name) != version_then:
            _log.warning(
                "model %s was made with %s %s, here is %s",
                known.version,
                name,
                version_then,
                installed.get(name, "none"),
            )
    return known


def load(data: bytes, description: bytes, expected_sha256: str) -> Model:
    """The model from the bytes of an artifact and of its description.

    Raises what `verified` raises, before anything is unpickled, and UnusableModelError where
    unpickling fails.
    """
    known = verified(data, description, expected_sha256)
    # Importing scikit-learn takes half a second.
    from sklearn.exceptions import InconsistentVersionWarning  # noqa: PLC0415

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InconsistentVersionWarning)
            regressor = joblib.load(io.BytesIO(data))
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise UnusableModelError(
            f"model {known.version} cannot be loaded: {type(error).__name__}: {reason}; it was made"
            f" with {_named(known.libraries)}, and here is {_named(_libraries())}; run it where its"
            " classes are installed, or make another one current with `storecast promote`"
        ) from error
    if not callable(getattr(regressor, "predict", None)):
        raise UnusableModelError(
            f"model {known.version} cannot be loaded: a {type(regressor).__name__} has no method"
            " `predict`; register a fitted regressor"
        )
    return Model.of(regressor, known)


class _Unloaded:
    """Takes the place of the regressor while the description is checked."""

    def predict(self, X: Floats32, /) -> Floats:  # noqa: N803
        raise NotImplementedError(
            f"{len(X)} predictions were requested before the model was loaded"
        )


def _named(libraries: Mapping[str, str]) -> str:
    return (
        ", ".join(f"{name} {version}" for name, version in libraries.items()) or "other libraries"
    )


def _libraries() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES}
