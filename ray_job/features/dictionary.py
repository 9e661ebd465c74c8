"""The dictionary of features: the meaning of each one, its unit, and when it is NaN.

The texts are in dictionary.toml. `python -m ray_job.features.dictionary` writes them into
docs/models.md; a second run changes nothing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ray_job.features.amounts import LAGS, LAGS_OF_WEEKDAY, MEAN_OF_LAST, MEAN_OF_WEEKDAY
from ray_job.features.inputs import Inputs, code_names
from ray_job.features.past import SAME_KIND, SAME_WEEKDAY
from ray_job.features.recent import HALF_LIVES, LAST, LAST_DAYS

NEVER = "never"
"""`nan_when` of a feature that is never NaN."""
DOCUMENT = Path("docs/models.md")

_BEGIN = "<!-- The dictionary of features begins. `make fix` writes it from dictionary.toml. -->\n"
_END = "<!-- The dictionary of features ends. -->\n"
_NUMBERS: dict[str, tuple[int, ...]] = {
    "last": LAST,
    "half_life": HALF_LIVES,
    "same_kind": SAME_KIND,
    "same_weekday": SAME_WEEKDAY,
    "mean_of_last": MEAN_OF_LAST,
    "mean_of_weekday": MEAN_OF_WEEKDAY,
    "lag": LAGS,
    "lag_weekday": LAGS_OF_WEEKDAY,
    "lag_residual": LAST_DAYS,
}
_COLUMNS: dict[str, Callable[[Inputs], Sequence[str]]] = {
    "open": lambda inputs: [name for name in inputs.known_ahead if name == "open"],
    "plan": lambda inputs: [name for name in inputs.known_ahead if name != "open"],
    "plan_number": lambda inputs: [
        name for name in inputs.known_ahead if name != "open" and name not in inputs.categories
    ],
    "weather": lambda inputs: inputs.weather,
    "code": lambda inputs: [name.removesuffix("_code") for name in code_names(inputs)],
    "store_number": lambda inputs: inputs.store_numbers,
    "store_text": lambda inputs: inputs.store_texts,
}
_COLUMN_NOTES = {
    "open": "if there is a column `open`",
    "plan": "each known-ahead column but `open`",
    "plan_number": "each number among the known-ahead columns but `open`",
    "weather": "each number of the weather table",
    "code": "item, store; where they are few, and each has several series",
    "store_number": "each number of the stores table",
    "store_text": "each text of the stores table",
}


@dataclass(frozen=True, slots=True)
class FeatureMeaning:
    """`nan_when` is NEVER or the condition under which the value is NaN."""

    meaning: str
    unit: str
    nan_when: str


@dataclass(frozen=True, slots=True)
class Family:
    """A feature, or features that differ in a parameter only: a number `{k}` or a `{column}`.

    `parameter` names the values of the parameter, None where there is none.
    """

    section: str
    name: str
    meaning: str
    unit: str
    nan_when: str
    parameter: str | None = None

    def members(self, inputs: Inputs) -> Iterator[tuple[str, FeatureMeaning]]:
        """The name and the meaning of each feature of the family, for a model's inputs."""
        for value in self._values(inputs):
            name, meaning, nan_when = (
                text.replace("{k}", value).replace("{column}", value)
                for text in (self.name, self.meaning, self.nan_when)
            )
            yield name, FeatureMeaning(meaning, self.unit, nan_when)

    def row(self) -> str:
        """The family's row of the document's table."""
        note = ""
        if self.parameter in _NUMBERS:
            note = f", *k* = {', '.join(map(str, _NUMBERS[self.parameter]))}"
        elif self.parameter is not None:
            note = f" ({_COLUMN_NOTES[self.parameter]})"
        name = self.name.replace("{k}", "<k>").replace("{column}", "<column>")
        meaning = self.meaning.replace("{k}", "*k*").replace("`{column}`", "the column")
        nan_when = self.nan_when.replace("`{column}`", "the column")
        return f"| `{name}`{note} | {meaning} | {self.unit} | {nan_when} |\n"

    def _values(self, inputs: Inputs) -> Sequence[str]:
        if self.parameter is None:
            return [""]
        if self.parameter in _NUMBERS:
            return [str(number) for number in _NUMBERS[self.parameter]]
        return _COLUMNS[self.parameter](inputs)


@cache
def families() -> tuple[Family, ...]:
    """All families, in the order of the document."""
    text = files(__package__).joinpath("dictionary.toml").read_text(encoding="utf-8")
    sections: list[dict[str, Any]] = tomllib.loads(text)["sections"]
    return tuple(
        Family(section=section["title"], **entry)
        for section in sections
        for entry in section["features"]
    )


def dictionary(inputs: Inputs) -> dict[str, FeatureMeaning]:
    """The meaning of each of `feature_names(inputs)`, by name."""
    return dict(member for family in families() for member in family.members(inputs))


def tables() -> str:
    """All families as Markdown, one table for each section."""
    parts: list[str] = []
    section = None
    for family in families():
        if family.section != section:
            section = family.section
            parts.append(f"\n### {section}\n\n| feature | meaning | unit | NaN when |\n")
            parts.append("|---|---|---|---|\n")
        parts.append(family.row())
    return "".join([*parts, "\n"])


def with_dictionary(document: str) -> str:
    """The document with the present tables between its two markers.

    Raises ValueError where the document lacks a marker.
    """
    before, begin, rest = document.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{DOCUMENT} lacks one of the lines {_BEGIN.strip()} and {_END.strip()}")
    return f"{before}{begin}{tables()}{end}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(
        with_dictionary(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8", newline="\n"
    )
