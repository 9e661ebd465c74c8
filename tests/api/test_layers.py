"""The layers of api/README.md hold: no import of the service goes to a higher layer."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

README = Path(__file__).parents[2] / "api" / "README.md"
MAX_MODULES, MAX_LINES = 16, 330


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("api", exclude_type_checking_imports=True)


@pytest.fixture(scope="module")
def imports(graph):
    """The modules that each module imports."""
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


@pytest.fixture(scope="module")
def layer_of():
    """The number of the layer of each module or package that the README lists, from below."""
    lines = re.findall(r"^(\d+)\. ((?:`\w+` )+)", README.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        f"api.{name}": int(number)
        for number, names in lines
        for name in re.findall(r"`([^`]+)`", names)
    }


def test_every_package_and_top_module_has_a_layer(graph, layer_of):
    assert set(layer_of) == graph.find_children("api")


def test_no_import_goes_to_a_higher_layer(imports, layer_of):
    def top(module):
        return ".".join(module.split(".")[:2])

    upward = [
        (importer, imported)
        for importer, targets in imports.items()
        for imported in targets
        if "api" not in (importer, imported) and top(importer) != top(imported)
        if layer_of[top(imported)] >= layer_of[top(importer)]
    ]
    assert upward == []


def test_there_is_no_circle_of_modules(imports):
    # Raises CycleError, which names the modules of a circle.
    order = list(TopologicalSorter(imports).static_order())
    assert set(order) == set(imports)


def test_packages_and_modules_have_the_right_size(graph):
    for package in ("api", *graph.find_children("api")):
        modules = graph.find_children(package)
        if modules:
            assert 2 <= len(modules) <= MAX_MODULES, package
    for path in README.parent.rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES, path
