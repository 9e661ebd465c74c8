"""Imports point from upper layers to lower ones; who imports ray, and what API and bucket load.

The layers of the job are the block below "## Layers" in `ray_job/README.md`.
"""

from __future__ import annotations

import re
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"ray", "deltalake", "sklearn", "duckdb", "pandas", "typer"}
"""Libraries that nobody shall load who only reads or writes the bucket."""


def layers() -> list[list[str]]:
    """Packages and modules of the job, by line of the block, the lowest first."""
    text = (ROOT / "ray_job" / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^## Layers\n.*?^```\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [line.split() for line in block.splitlines()]


def build_graph(*, exclude_type_checking_imports: bool = False) -> grimp.ImportGraph:
    """All imports. The cache is not used, since it may have imports that a file no longer has."""
    return grimp.build_graph(
        "ray_job",
        "api",
        include_external_packages=True,
        exclude_type_checking_imports=exclude_type_checking_imports,
        cache_dir=None,
    )


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return build_graph()


@pytest.fixture(scope="module")
def imports(graph: grimp.ImportGraph) -> dict[str, set[str]]:
    """For each module of the job and of the API the modules of both that it imports."""
    ours = {module for module in graph.modules if module.split(".")[0] in ("ray_job", "api")}
    return {module: graph.find_modules_directly_imported_by(module) & ours for module in ours}


def package(module: str) -> str:
    """The first name below `ray_job`; empty for `ray_job` itself."""
    return module.partition(".")[2].partition(".")[0]


def test_each_package_of_the_job_is_in_one_layer(imports):
    named = sorted(name for line in layers() for name in line)
    assert named == sorted({package(module) for module in imports if module[:8] == "ray_job."})


def test_imports_point_to_lower_layers(graph, imports):
    """Packages of one layer do not import each other."""
    height = {name: number for number, line in enumerate(layers()) for name in line}
    wrong = [
        f"{module}:{details['line_number']} imports {imported}"
        for module in sorted(imports)
        for imported in sorted(imports[module])
        if module.startswith("ray_job.") and imported.startswith("ray_job.")
        if package(module) != package(imported)
        if height[package(module)] <= height[package(imported)]
        for details in graph.get_import_details(importer=module, imported=imported)
    ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle(imports):
    assert circle(imports) == []


@pytest.mark.parametrize(
    ("imports_of", "expected"),
    [
        ({"a": {"b", "c"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, ["b", "c"]),
        ({"a": {"a"}}, ["a"]),
    ],
)
def test_a_circle_is_noticed(imports_of, expected):
    assert circle(imports_of) == expected


def test_one_package_imports_ray(imports):
    """Imports for type checkers only do not count, since they do not load Ray."""
    loaded = build_graph(exclude_type_checking_imports=True)
    importers = loaded.find_modules_that_directly_import("ray") & imports.keys()
    assert {package(module) for module in importers} == {"datasets"}


def test_the_api_imports_only_the_bucket_of_the_job(imports):
    shared = {
        imported
        for module in imports
        if module.split(".")[0] == "api"
        for imported in imports[module]
        if imported.split(".")[0] == "ray_job"
    }
    assert {package(module) for module in shared} == {"bucket"}


def test_the_job_does_not_import_the_api(graph):
    assert not graph.direct_import_exists(importer="ray_job", imported="api", as_packages=True)


def test_the_bucket_imports_no_heavy_library(graph):
    assert graph.find_upstream_modules("ray_job.bucket", as_package=True) & HEAVY == set()


def test_the_api_loads_no_numpy(graph):
    """Its image has no numpy, and an installation of the extra `api` has none either."""
    for name in ("api", "ray_job.bucket"):
        assert "numpy" not in graph.find_upstream_modules(name, as_package=True)


def circle(imports_of: dict[str, set[str]]) -> list[str]:
    """Modules of which each imports the next and the last the first; empty if there are none."""
    finished: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return path[path.index(module) :]
        if module in finished:
            return []
        for imported in sorted(imports_of[module]):
            if modules := visit(imported, [*path, module]):
                return modules
        finished.add(module)
        return []

    return next((modules for module in sorted(imports_of) if (modules := visit(module, []))), [])
