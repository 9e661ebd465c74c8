"""The pages that explain the types of problems."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

from api.problems import ProblemKind
from api.views.problem_schemas import Problem
from api.views.rendering import render


@dataclass(frozen=True, slots=True)
class ProblemText:
    """A type of problem in words. `members` are (name, what it holds)."""

    slug: str
    title: str
    status: int
    paragraphs: tuple[str, ...]
    members: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, kind: ProblemKind, schema: type[Problem]) -> ProblemText:
        text = inspect.getdoc(schema) or ""
        return cls(
            kind.slug,
            kind.title,
            kind.status,
            tuple(" ".join(part.split()) for part in text.split("\n\n")),
            tuple(
                (name, field.description or "")
                for name, field in schema.model_fields.items()
                if name not in Problem.model_fields
            ),
        )


def problem_type_page(problem: ProblemText, operations: Sequence[str]) -> str:
    """`operations` are those that can give the problem."""
    return render("problem_type.html", problem=problem, operations=operations)


def problem_types_page(problems: Sequence[ProblemText]) -> str:
    return render("problem_types.html", problems=problems)
