"""The settings of the service, read from `STORECAST_API_…` variables into one frozen object."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableError

from ray_job.bucket.errors import SettingsError

_ASYMMETRIC = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip


class Issuer(BaseModel):
    """One issuer whose tokens are accepted, for example Google or Identity-Aware Proxy.

    `jwks` is the address of its public keys: https://…, http:// on loopback, or file://….
    `header` names the header that holds its tokens: Authorization with a bearer token, or the
    header that Identity-Aware Proxy sets. `trust_email`: its e-mail addresses are verified although
    its tokens have no `email_verified` claim, like those of Identity-Aware Proxy.
    `authorized_parties`: what the claim `azp` of its tokens may be besides the audience.
    `max_token_seconds`: the longest time for which a token may be valid in all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str = Field(min_length=1)
    jwks: str
    audience: str = Field(min_length=1)
    algorithms: tuple[str, ...] = ("RS256",)
    header: Literal["authorization", "x-goog-iap-jwt-assertion"] = "authorization"
    trust_email: bool = False
    authorized_parties: tuple[str, ...] = ()
    max_token_seconds: int = Field(default=86_400, ge=60)

    @field_validator("algorithms")
    @classmethod
    def _check_algorithms(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not set(value) <= set(_ASYMMETRIC):
            raise ValueError(f"algorithms must be among {', '.join(_ASYMMETRIC)}")
        return value

    @field_validator("jwks")
    @classmethod
    def _check_jwks(cls, value: str) -> str:
        address = urlsplit(value)
        is_plain_loopback = address.scheme == "http" and is_loopback(address.hostname or "")
        if address.scheme not in {"https", "file"} and not is_plain_loopback:
            raise ValueError("jwks must be https://…, file://… or http:// on loopback")
        return value


class ServiceSettings(BaseSettings):
    """The settings of one process. The time zone and the deadline are in the bucket's pointer.

    Without issuers sign-in is off. That is allowed only if the server binds to loopback.
    """

    model_config = SettingsConfigDict(env_prefix="STORECAST_API_", frozen=True, extra="forbid")

    bucket: str
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    probe_port: int | None = Field(default=None, ge=0, le=65535)
    """A second port for the probes and the metrics alone, which no number of callers can occupy."""
    refresh_seconds: float = Field(default=5.0, gt=0, le=10)
    cache_dir: Path | None = None
    """The folder for parts as Arrow files; None: a temporary folder of the process."""
    grants_seconds: float = Field(default=86_400.0, gt=0)
    """How long the last verified grants stay in force while those of the bucket are damaged or
    cannot be read."""
    issuers: tuple[Issuer, ...] = ()
    cors_origins: tuple[str, ...] = ()
    locale: str | None = Field(default=None, pattern="^[A-Za-z]{2}(-[A-Za-z]{2})?$")
    """The language of the page, as `de` or `de-CH`; None: that of the browser."""
    drain_seconds: float = Field(default=5.0, ge=0)
    """How long the server answers after SIGTERM while it says that it is not ready."""

    requests_per_second: float = Field(default=0.0, ge=0)
    """The limit of each caller; 0: no limit."""
    burst: int = Field(default=100, ge=1)
    request_seconds: float = Field(default=30.0, gt=0)
    max_body_bytes: int = Field(default=65_536, ge=0)
    max_header_bytes: int = Field(default=16_384, ge=1024)
    max_connections: int = Field(default=1000, ge=1)
    max_connections_per_peer: int = Field(default=250, ge=1)
    """The limit of one address. Behind a load balancer that is one of its machines."""
    idle_seconds: float = Field(default=75.0, gt=0)
    """How long a connection stays open without a request."""
    memory_bytes: int = Field(default=64 * 2**20, ge=0)
    """The size of the cache of replies; 0: no cache."""
    access_log: bool = True

    @model_validator(mode="after")
    def _check_sign_in(self) -> Self:
        if not self.issuers and not is_loopback(self.host):
            raise ValueError(
                f"sign-in is off (no issuers): allowed on loopback only, not on {self.host}"
            )
        return self

    @classmethod
    def load(cls) -> ServiceSettings:
        """Read the environment. Raises SettingsError that names the variable."""
        try:
            return cls()
        except UnreadableError as error:
            raise SettingsError(f"STORECAST_API_…: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            setting = "_".join(str(part) for part in first["loc"]).upper()
            name = f"STORECAST_API_{setting}" if setting else "STORECAST_API settings"
            raise SettingsError(f"{name}: {first['msg']}") from error


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
