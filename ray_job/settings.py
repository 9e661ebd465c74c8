"""Settings: one frozen object, which the command line builds and passes on.

Later sources win: the defaults below, a TOML file, `STORECAST_…` variables (`__` between levels:
`STORECAST_PLAN__CHUNK_ROWS`), flags of the command line.
"""

from __future__ import annotations

import re
import tomllib
from datetime import time
from pathlib import Path
from typing import Annotated, Literal, Self
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
    EnvSettingsSource,
    InitSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from ray_job.bucket.errors import SettingsError
from ray_job.bucket.sanity import SILENT_DAYS

Fraction = Annotated[float, Field(ge=0, le=1)]
ColumnType = Literal["number", "text"]
_DATE_CODES = "aAdbBmyYHIpMSfzZj%"


def _known_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError(f"{name!r} is not a time zone of the tz database")
    return name


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Delivery(_Section):
    """How one kind of delivered file is read. `columns` maps our name to the file's header."""

    columns: dict[str, str] = {}
    ignore: tuple[str, ...] = ()
    types: dict[str, ColumnType] = {}
    decimal: Literal[".", ","] | None = None
    """The decimal mark of numbers that are text. None: a point; what reads both ways is refused."""
    thousands: Literal[".", ",", " ", "'"] | None = None
    """The mark between groups of three digits. None: no number has one."""
    date_format: str | None = Field(default=None, min_length=2)
    """How dates that are text are written, in the codes of strptime. None: YYYY-MM-DD."""

    @property
    def decimal_mark(self) -> str:
        return self.decimal or ("," if self.thousands == "." else ".")

    @model_validator(mode="after")
    def _marks_differ(self) -> Self:
        if self.thousands is not None and self.thousands == self.decimal_mark:
            raise ValueError(f"decimal and thousands are both {self.thousands!r}: change one")
        return self

    @model_validator(mode="after")
    def _names_a_day(self) -> Self:
        codes = set(re.findall("%-?(.)", self.date_format or ""))
        parts = [codes & set(names) for names in ("yY", "mbBj", "dj")]
        if self.date_format is not None and not (all(parts) and codes <= set(_DATE_CODES)):
            raise ValueError(
                f"{self.date_format!r} does not name a day: use codes such as %d.%m.%Y"
            )
        return self


class Sales(Delivery):
    """Files of sales. Columns in `known_ahead` are known in advance for the target dates."""

    rows: Literal["daily", "transactions"] = "daily"
    missing_items: Literal["unknown", "zero"] = "unknown"
    """Daily rows: the sales of an item without a row on a day on which its store delivered.

    Of transactions they are always 0.
    """
    totals: Literal["refuse", "leave_out", "keep"] = "refuse"
    """What happens to stores and items that are the sum of the others, day by day."""
    leave_out_stores: tuple[str, ...] = ()
    """Rows of these stores are not read, for example those of a store `Total`."""
    store_ids: Literal["as_delivered", "encode"] = "as_delivered"
    """`encode` gives ids that are no store ids a readable one, in files of sales and of stores."""
    known_ahead: tuple[str, ...] = ("open", "promo")
    known_ahead_days: PositiveInt | None = None
    """For how many days after the as-of they are usually delivered; None: the horizon."""
    unit: str | None = Field(default=None, min_length=1, max_length=40)
    """What a number of sales counts, for people: `pieces`, `kg`. Answers and the page name it."""
    currency: str | None = Field(default=None, pattern="^[A-Z]{3}$")
    """The currency (ISO 4217) if sales are money. Answers and the page name it."""

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
    """The default model. The training set is a sample of at most `rows` rows of all histories."""

    rows: PositiveInt = 1_500_000
    history_rows: PositiveInt = 12_000_000
    """If all histories together have more rows, only a sample of the stores is read."""
    history_days: PositiveInt = 2000
    """Examples are days of so many last days. The features of each look back `lookback_days`."""
    memory_gib: float = Field(default=4.0, gt=0)
    """The training set has only so many rows that fitting on it takes at most this memory."""
    trees: PositiveInt = 220
    learning_rate: float = Field(default=0.06, gt=0, le=1)
    leaves: PositiveInt = 255
    calibration_days: PositiveInt = 84
    """Long enough to have easy and hard weeks: six weeks made the intervals too narrow."""
    seed: int = 17


class Intervals(_Section):
    adapt: bool = True
    """Whether the widths of the intervals follow the coverage of the last weeks."""


class Run(_Section):
    chunk_deadline_seconds: PositiveInt = 900
    attempts_per_as_of: PositiveInt = 3
    storage_wait_seconds: PositiveInt = 300
    """So long a run waits in all for a storage that fails or stalls; half of it in its workers."""

    @property
    def driver_wait_seconds(self) -> float:
        """The half of the driver, from the command's first request to its last. See 0105."""
        return self.storage_wait_seconds / 2

    fallback_after_days: PositiveInt = 14
    """Sales that end more than this many days before the as-of are too old for the model."""
    minimum_history_days: PositiveInt = 28
    """A series with fewer observed days gets the simple rule."""
    similar_stores: bool = True
    """Whether new stores and items are forecast by similar ones until they have enough days.

    That is `minimum_history_days`.
    """


class Gates(_Section):
    """Limits that a release must keep to be published without `--force`."""

    missing_share: Fraction = 0.01
    late_share: Fraction = 0.25
    vanished_stores: Annotated[int, Field(ge=0)] = 0
    mean_factor: float = Field(default=2.0, gt=1)


class Sanity(_Section):
    """Limits beyond which a run gives warnings. It publishes nevertheless; gates refuse."""

    silent_days: PositiveInt = SILENT_DAYS
    """A store without sales for this many days before the as-of is silent."""
    silent_share: Fraction = 0.05
    carried_share: Fraction = 0.05
    fallback_share: Fraction = 0.1
    missing_weather_share: Fraction = 0.1
    level_factor: float = Field(default=1.5, gt=1)
    """Of forecasts to the same weekday's recent means, in total and by region."""


class Prices(_Section):
    """Prices of computing, for the estimate in receipts.

    The defaults are Google's list prices of general-purpose GKE Autopilot pods on demand in
    us-central1, in 2026 (cloud.google.com/kubernetes-engine/pricing, "Autopilot mode"). Prices of
    other regions, of Spot and of contracts differ: set your own.
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
    """The local time by which the forecast of a night should be live."""
    country: str = "DE"
    """Its public holidays are used if no holidays are delivered."""
    horizon: Annotated[int, Field(ge=2, le=14)] = 7
    lookback_days: Annotated[int, Field(ge=56)] = 1000

    sales: Sales = Sales()
    weather: Delivery = Delivery()
    holidays: Delivery = Delivery()
    stores: Delivery = Delivery()
    ingest: Ingest = Ingest()
    plan: Plan = Plan()
    training: Training = Training()
    intervals: Intervals = Intervals()
    run: Run = Run()
    gates: Gates = Gates()
    sanity: Sanity = Sanity()
    prices: Prices = Prices()
    publish: Publish = Publish()

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @model_validator(mode="after")
    def _sales_is_not_known_ahead(self) -> Self:
        if "sales" in self.sales.known_ahead:
            raise ValueError("sales.known_ahead names sales, which cannot be known ahead")
        return self


def load(path: Path | None, *, bucket: str | None = None) -> Settings:
    """Settings from the TOML file `path`, the environment and the flag `bucket`; None: not given.

    Raises SettingsError, naming the file and the key, for an unknown key or a wrong value.
    """
    flags = {} if bucket is None else {"bucket": bucket}
    sources = (
        InitSettingsSource(Settings, flags),
        EnvSettingsSource(Settings),
        *([] if path is None else [_toml_source(path)]),
    )
    try:
        return Settings(_build_sources=(sources, flags))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{path or 'settings'}: {key}: {first['msg']}") from error


def _toml_source(path: Path) -> TomlConfigSettingsSource:
    if not path.is_file():  # The source would read it as an empty file.
        raise SettingsError(f"{path}: No such file; --settings names a file of settings in TOML")
    try:
        return TomlConfigSettingsSource(Settings, toml_file=path)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error
