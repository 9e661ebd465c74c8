"""Settings: one frozen object, built at the edge and passed in.

Later sources win: the defaults below, a TOML file, `STORECAST_…` variables (`__` between levels:
`STORECAST_PLAN__CHUNK_ROWS`), and what the command line gives.
"""

from __future__ import annotations

import tomllib
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from ray_job.bucket.errors import SettingsError
from ray_job.bucket.sanity import SILENT_DAYS

Fraction = Annotated[float, Field(ge=0, le=1)]
ColumnType = Literal["number", "text"]


def _known_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError(f"{name!r} is not a time zone of the tz database")
    return name


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Delivery(_Section):
    """How one kind of delivered file reads. `columns` maps our name to the file's header."""

    columns: dict[str, str] = {}
    ignore: tuple[str, ...] = ()
    types: dict[str, ColumnType] = {}


class Sales(Delivery):
    """Files of sales. Columns in `known_ahead` are known for the target dates in advance."""

    rows: Literal["daily", "transactions"] = "daily"
    missing_items: Literal["unknown", "zero"] = "unknown"
    """Daily rows: the sales of an item without a row on a day on which its store delivered.

    Of transactions they are always 0.
    """
    known_ahead: tuple[str, ...] = ("open", "promo")
    known_ahead_days: PositiveInt | None = None
    """How many days after the as-of they are delivered on a usual night; None: the horizon."""

    @property
    def missing_is_zero(self) -> bool:
        """Whether an item without a row sold nothing on a day on which its store delivered."""
        return self.rows == "transactions" or self.missing_items == "zero"


class Ingest(_Section):
    memory_limit: str = "500MB"
    row_group_rows: PositiveInt = 16_384
    compact_above_files: PositiveInt = 16


class Plan(_Section):
    """A chunk holds about `chunk_bytes` of files and at most `chunk_rows` rows."""

    chunk_bytes: PositiveInt = 8 * 2**20
    chunk_rows: PositiveInt = 2_000_000


class Training(_Section):
    """The default model. `rows` bounds the training set, which is sampled from all history."""

    rows: PositiveInt = 1_500_000
    history_rows: PositiveInt = 12_000_000
    """Of larger histories a share of the stores is looked at."""
    trees: PositiveInt = 220
    learning_rate: float = Field(default=0.06, gt=0, le=1)
    leaves: PositiveInt = 255
    calibration_days: PositiveInt = 84
    """Long enough to hold easy and hard weeks: six weeks alone made intervals too narrow."""
    seed: int = 17


class Run(_Section):
    chunk_deadline_seconds: PositiveInt = 900
    attempts_per_as_of: PositiveInt = 3
    fallback_after_days: PositiveInt = 14
    """Sales older than this many days before the as-of are too old for the model."""
    minimum_history_days: PositiveInt = 28
    """A series with fewer observed days gets the simple rule."""


class Gates(_Section):
    """What a release must satisfy to be published without `--force`."""

    missing_share: Fraction = 0.01
    late_share: Fraction = 0.25
    vanished_stores: Annotated[int, Field(ge=0)] = 0
    mean_factor: float = Field(default=2.0, gt=1)


class Sanity(_Section):
    """What makes a run warn. It publishes all the same: refusing is for the gates."""

    silent_days: PositiveInt = SILENT_DAYS
    """A store without sales for so many days before the as-of has gone silent."""
    silent_share: Fraction = 0.05
    carried_share: Fraction = 0.05
    fallback_share: Fraction = 0.1
    missing_weather_share: Fraction = 0.1
    level_factor: float = Field(default=1.5, gt=1)
    """Between forecasts and the same weekday's recent means, in total and by region."""


class Prices(_Section):
    """What compute costs, for the estimate in receipts.

    The defaults are Google's list prices of general-purpose GKE Autopilot pods on demand in
    us-central1, in 2026 (cloud.google.com/kubernetes-engine/pricing, "Autopilot mode"). Other
    regions, Spot and contracts differ: put your own prices in.
    """

    currency: str = "USD"
    cpu_hour: Annotated[float, Field(ge=0)] = 0.0445
    memory_gib_hour: Annotated[float, Field(ge=0)] = 0.0049225


class Publish(_Section):
    keep_days: PositiveInt = 400
    history_entries: PositiveInt = 400
    accuracy_days: PositiveInt = 60


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="STORECAST_", env_nested_delimiter="__"
    )

    bucket: str = "data"
    time_zone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    deadline: time = time(6, 0)
    """Local time by which the night's forecast should be live."""
    country: str = "DE"
    """For the calendar of public holidays, where none is delivered."""
    horizon: Annotated[int, Field(ge=2, le=14)] = 7
    lookback_days: Annotated[int, Field(ge=56)] = 1000

    sales: Sales = Sales()
    weather: Delivery = Delivery()
    holidays: Delivery = Delivery()
    stores: Delivery = Delivery()
    ingest: Ingest = Ingest()
    plan: Plan = Plan()
    training: Training = Training()
    run: Run = Run()
    gates: Gates = Gates()
    sanity: Sanity = Sanity()
    prices: Prices = Prices()
    publish: Publish = Publish()

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings

    @model_validator(mode="after")
    def _sales_is_not_known_ahead(self) -> Self:
        if "sales" in self.sales.known_ahead:
            raise ValueError("sales.known_ahead names sales, which is what is forecast")
        return self


def load(path: Path | None, **flags: Any) -> Settings:
    """Settings from `path` (TOML), the environment and `flags`; None among them means not given.

    Raises SettingsError, naming the key, for an unknown key or a value that does not fit.
    """
    try:
        given = {} if path is None else tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error
    try:
        settings = Settings(**given)
        known = {name: value for name, value in flags.items() if value is not None}
        return settings.model_copy(update=known) if known else settings
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{path or 'settings'}: {key}: {first['msg']}") from error
