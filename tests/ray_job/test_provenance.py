"""What a part's name covers: every source and library that decides a prediction."""

import ast

import grimp

from ray_job import provenance

DECIDING_NOTHING = {
    "ray_job.evaluation",  # metrics of training, and how many days' sales an outcome carries
    "ray_job.events",  # log lines
    "ray_job.plan",  # the files of a chunk, which its digest names
    "ray_job.progress",  # progress bars
    "ray_job.provenance",
    "ray_job.settings",  # its values are in the digest
}


def package(module):
    return ".".join(module.split(".")[:2])


def test_what_makes_a_part_lies_in_the_packages_of_the_digest():
    graph = grimp.build_graph("ray_job", exclude_type_checking_imports=True, cache_dir=None)
    needed = graph.find_upstream_modules("ray_job.forecasting", as_package=True)
    covered = {f"ray_job.{name}" for name in provenance.DECIDING}
    assert {package(module) for module in needed} <= covered | DECIDING_NOTHING


def test_a_new_module_is_a_source_by_itself(tmp_path):
    folder = tmp_path / "features"
    folder.mkdir()
    (folder / "tides.py").write_text("import numpy\n")
    assert provenance.sources(tmp_path) == [folder / "tides.py"]


def test_libraries_follow_from_the_imports(tmp_path):
    module = tmp_path / "other_model.py"
    module.write_text("from sklearn.ensemble import HistGradientBoostingRegressor\nimport json\n")
    assert provenance.libraries([module]) == ["scikit-learn"]
    module.write_text("import duckdb\nfrom ray_job.data import panel\n")
    assert provenance.libraries([module]) == ["duckdb"]


def test_imports_are_those_of_the_syntax_tree():
    for path in provenance.sources():
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
        names = {
            alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
        }
        names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        assert {name.partition(".")[0] for name in names} == provenance._imported(path), path


def test_versions_have_the_model_and_its_arrays():
    assert {"scikit-learn", "numpy", "pyarrow", "holidays", "joblib"} <= set(provenance.versions())
