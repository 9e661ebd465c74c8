"""matplotlib figures as SVG that stands inside a page of HTML."""

from __future__ import annotations

import io
import re
from contextlib import AbstractContextManager
from html import escape
from typing import Any

import matplotlib as mpl
import matplotlib.style as mpl_style
from matplotlib.figure import Figure

PALETTE = {
    "ink": "#1d2733",
    "soft": "#5d6b7a",
    "rule": "#e3e8ee",
    "ground": "#f6f8fa",
    "shade": "#eceff3",
    "forecast": "#1f6feb",
    "band": "#cfe1fd",
    "naive": "#d97a1e",
    "actual": "#1d2734",
    "limit": "#9aa7b5",
}
"""The page's light colours. No two are the same: a colour tells which variable it becomes."""

DARK_PALETTE = {
    "ink": "#e6ebf1",
    "soft": "#a3b0be",
    "rule": "#2c3540",
    "ground": "#1a212a",
    "shade": "#212a34",
    "forecast": "#4c93ff",
    "band": "#1c3b69",
    "naive": "#e8913a",
    "actual": "#e6ebf1",
    "limit": "#75828f",
}

_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 12,
    "text.parse_math": False,
    "text.color": PALETTE["ink"],
    "axes.labelcolor": PALETTE["soft"],
    "xtick.labelcolor": PALETTE["soft"],
    "ytick.labelcolor": PALETTE["soft"],
    "xtick.major.pad": 5,
    "axes.axisbelow": True,
    "grid.color": PALETTE["rule"],
    "grid.linewidth": 1,
}
_VARIABLES = {color: f"var(--{kind})" for kind, color in PALETTE.items()}
_COLOR = re.compile("|".join(_VARIABLES))
_GROUP_ID = re.compile(r' id="[\w.]+_\d+"')
_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def drawing_style() -> AbstractContextManager[None]:
    """matplotlib's own defaults and the report's settings, whatever the user's settings are."""
    return mpl_style.context(["default", _SETTINGS])


def svg(figure: Figure, alternative: str) -> str:
    """The element `svg` of a figure that was drawn under `drawing_style`.

    `alternative` describes the drawing in words. Texts stay texts, and colours become variables of
    the page's style sheet. There are no dates. The only ids are those of markers; they follow from
    `alternative`, so that drawings with different alternatives fit into one page.
    """
    for artist in figure.findobj():
        artist.set_clip_on(False)
    written = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": alternative}):
        figure.savefig(written, format="svg", metadata=_METADATA)
    element = written.getvalue()
    element = _GROUP_ID.sub("", element[element.index("<svg") :].rstrip())
    element = _COLOR.sub(lambda match: _VARIABLES[match[0]], element)
    return element.replace("<svg", f'<svg role="img" aria-label="{escape(alternative)}"', 1)
