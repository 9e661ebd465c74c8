"""Names that say nothing, types that share a name, and the sizes of modules and packages.

`pytest tests/test_names.py -k ray_job/data` checks one folder.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHECKED = ("ray_job", "api", "tests", "k8s")
PACKAGES = ("ray_job", "api")
FORBIDDEN = {
    "told",
    "found",
    "one",
    "look",
    "account",
    "tally",
    "study",
    "work",
    "question",
    "words",
    "front",
}
LONGEST_MODULE = 330
"""Lines."""
MODULES_OF_A_PACKAGE = range(2, 17)


def python_files(*tops: str) -> list[Path]:
    return sorted(path for top in tops for path in (ROOT / top).rglob("*.py"))


def folders(*tops: str) -> list[str]:
    """The folders that have Python files, relative to the root of the project."""
    return sorted({path.parent.relative_to(ROOT).as_posix() for path in python_files(*tops)})


def defined_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of everything to which a module gives a name."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr
            case ast.arg():
                yield node.lineno, node.arg
            case ast.ExceptHandler(name=str(name)):
                yield node.lineno, name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield node.lineno, name
            case ast.MatchMapping(rest=str(name)):
                yield node.lineno, name
            case ast.alias(asname=str(name)):
                yield node.lineno, name


def forbidden_names(source: str) -> list[tuple[int, str]]:
    return sorted(
        (line, name)
        for line, name in defined_names(ast.parse(source))
        if name.replace("_", "").lower() in FORBIDDEN
    )


@pytest.mark.parametrize(
    "source",
    [
        "def told(): pass",
        "async def told(): pass",
        "class Found: pass",
        "def f(one): pass",
        "def f(*one): pass",
        "def f(**one): pass",
        "lambda look: None",
        "account = 1",
        "account: int = 1",
        "account += 1",
        "(study, _), *_rest = pairs",
        "[0 for _work_ in range(3)]",
        "for question in range(3): pass",
        "with open('x') as words: pass",
        "(front := 1)",
        "try: pass\nexcept ValueError as told: pass",
        "match x:\n    case [1, *found]: pass",
        "match x:\n    case {'a': 1, **found}: pass",
        "match x:\n    case int() as one: pass",
        "match x:\n    case Point(x=one): pass",
        "self.tally = 1",
        "import json as LOOK",
        "from json import loads as study",
    ],
)
def test_every_kind_of_definition_is_checked(source: str):
    assert len(forbidden_names(source)) == 1


@pytest.mark.parametrize(
    "source", ["print(one)", "f(one=1)", "row['told']", "entry.found", "one_day = 1", "'words'"]
)
def test_what_defines_no_name_is_not_checked(source: str):
    assert forbidden_names(source) == []


@pytest.mark.parametrize("folder", folders(*CHECKED))
def test_no_name_of_a_folder_is_forbidden(folder: str):
    wrong = []
    for path in sorted((ROOT / folder).glob("*.py")):
        place = path.relative_to(ROOT)
        if path.stem.replace("_", "").lower() in FORBIDDEN:
            wrong.append(f"{place}: the module's name")
        source = path.read_text(encoding="utf-8")
        wrong += [f"{place}:{line}: {name}" for line, name in forbidden_names(source)]
    assert wrong == []


def test_the_name_of_a_class_is_used_once():
    places = defaultdict(list)
    for path in python_files(*PACKAGES):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert {name: lines for name, lines in places.items() if len(lines) > 1} == {}


def test_no_module_is_too_long():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in python_files(*PACKAGES)
    }
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_MODULE} == {}


def test_no_package_has_too_many_or_too_few_modules():
    """`__init__` and `__main__` do not count."""
    modules = {
        folder: sum(not path.stem.startswith("__") for path in (ROOT / folder).glob("*.py"))
        for folder in folders(*PACKAGES)
    }
    assert {
        folder: number for folder, number in modules.items() if number not in MODULES_OF_A_PACKAGE
    } == {}
