"""Content negotiation (RFC 9110, 12.5): which format and which encoding the caller prefers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from api.problems import NotAcceptableError
from api.views.formats import MEDIA_TYPES, Format

_BARE_TYPES: dict[Format, str] = {
    name: media_type.partition(";")[0] for name, media_type in MEDIA_TYPES.items()
}
_MAX_ENTRIES = 64


def negotiate(accept: str, offered: Sequence[Format]) -> Format:
    """The offered format that an Accept header ranks highest, the first one among equals.

    Raises NotAcceptableError if the header excludes all of them.
    """
    if not accept.strip():
        return offered[0]
    qualities = quality_values(accept)
    best = max(offered, key=lambda name: _media_type_quality(_BARE_TYPES[name], qualities))
    if _media_type_quality(_BARE_TYPES[best], qualities) <= 0:
        raise NotAcceptableError(
            "this is offered as " + ", ".join(_BARE_TYPES[name] for name in offered),
            offered=[_BARE_TYPES[name] for name in offered],
        )
    return best


def accepts_gzip(accept_encoding: str) -> bool:
    qualities = quality_values(accept_encoding)
    return qualities.get("gzip", qualities.get("*", 0.0)) > 0


def quality_values(header: str) -> dict[str, float]:
    """The quality from 0 to 1 of each entry of an Accept or Accept-Encoding header.

    Names are in lower case and without parameters. An entry without `q` has quality 1, one whose
    `q` is no number has quality 0. What follows after many entries is not read.
    """
    entries = header.split(",", _MAX_ENTRIES)[:_MAX_ENTRIES]
    return dict(_name_and_quality(entry) for entry in entries if entry.strip())


def _name_and_quality(entry: str) -> tuple[str, float]:
    name, *parameters = (part.strip() for part in entry.split(";"))
    quality = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "q":
            try:
                quality = min(max(float(value), 0.0), 1.0)
            except ValueError:
                quality = 0.0
    return name.lower(), quality


def _media_type_quality(media_type: str, qualities: Mapping[str, float]) -> float:
    """The quality of the most specific range that covers the media type, 0 if none does."""
    for media_range in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        if media_range in qualities:
            return qualities[media_range]
    return 0.0
