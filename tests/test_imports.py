"""Arrows between modules point one way; who knows Ray, and what the API and the bucket load."""

import grimp
import pytest


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph(
        "ray_job", "api", include_external_packages=True, exclude_type_checking_imports=True
    )


def importers(graph, package):
    """Our modules that import a foreign package directly."""
    return {
        module
        for module in graph.find_modules_that_directly_import(package)
        if module.split(".")[0] in ("ray_job", "api")
    }


def test_only_one_package_knows_ray(graph):
    packages = {module.rpartition(".")[0] for module in importers(graph, "ray")}
    assert packages == {"ray_job.datasets"}


def test_the_api_imports_nothing_of_the_job_but_the_bucket(graph):
    found = {
        target
        for module in graph.modules
        if module.split(".")[0] == "api"
        for target in graph.find_modules_directly_imported_by(module)
        if target.split(".")[0] == "ray_job"
    }
    assert found
    assert {target for target in found if not target.startswith("ray_job.bucket")} == set()


def test_the_job_does_not_import_the_api(graph):
    assert not graph.direct_import_exists(importer="ray_job", imported="api", as_packages=True)


def test_the_bucket_stands_alone(graph):
    bucket = graph.find_descendants("ray_job.bucket") | {"ray_job.bucket"}
    upstream = graph.find_upstream_modules("ray_job.bucket", as_package=True)
    assert {module for module in upstream if module.startswith("ray_job")} <= bucket
    heavy = {"ray", "deltalake", "sklearn", "duckdb", "pandas", "typer"}
    assert upstream & heavy == set()


def test_the_api_loads_no_numpy(graph):
    """Its image has none, and pyproject.toml promises none to who installs only the API."""
    for package in ("api", "ray_job.bucket"):
        assert "numpy" not in graph.find_upstream_modules(package, as_package=True)


def test_there_are_no_cycles(graph):
    ours = {module for module in graph.modules if module.split(".")[0] in ("ray_job", "api")}
    arrows = {
        module: {
            target for target in graph.find_modules_directly_imported_by(module) if target in ours
        }
        for module in ours
    }
    assert _cycle(arrows) is None


def _cycle(arrows):
    """Modules that import each other in a circle, None if there are none."""
    done, path = set(), []

    def visit(module):
        if module in path:
            return path[path.index(module) :]
        if module in done:
            return None
        path.append(module)
        for target in sorted(arrows[module]):
            if (found := visit(target)) is not None:
                return found
        path.pop()
        done.add(module)
        return None

    return next((found for module in sorted(arrows) if (found := visit(module))), None)
