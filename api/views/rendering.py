"""The templates of all pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

_FOLDER = Path(__file__).parent / "templates"


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


_TEMPLATES = _environment()


def render(template: str, **values: Any) -> str:
    return _TEMPLATES.get_template(template).render(**values)


def style_sheet() -> bytes:
    return (_FOLDER / "page.css").read_bytes()


def compile_templates() -> None:
    """Otherwise each is compiled at its first use, which takes milliseconds."""
    for name in _TEMPLATES.list_templates(["html"]):
        _TEMPLATES.get_template(name)
