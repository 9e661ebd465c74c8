"""Settings as a TOML file that has only what differs from the defaults."""

from __future__ import annotations

from collections.abc import Mapping

from ray_job.ingest.reading.header_hints import toml_text
from ray_job.ingest.reading.kinds import KINDS, delivery_of
from ray_job.ingest.reading.way_out import toml_key
from ray_job.settings import Settings

_NAMES = ("time_zone", "country", "lookback_days")


def settings_text(settings: Settings) -> str:
    """The settings of deliveries as TOML, empty if all are defaults. `settings.load` reads it."""
    defaults = Settings.model_construct()
    lines = [
        f"{name} = {_toml(getattr(settings, name))}"
        for name in _NAMES
        if getattr(settings, name) != getattr(defaults, name)
    ]
    for kind in KINDS:
        section = delivery_of(settings, kind)
        default = type(section)()
        changed = [
            f"{name} = {_toml(value)}"
            for name, value in section.model_dump().items()
            if value != getattr(default, name)
        ]
        if changed:
            lines += [f"[{kind}]", *changed]
    return "".join(f"{line}\n" for line in lines)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return toml_text(value)
    if isinstance(value, Mapping):
        pairs = (f"{toml_key(str(name))} = {_toml(each)}" for name, each in value.items())
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value)
