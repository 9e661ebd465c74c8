"""What a part's name must cover: every source that decides a prediction."""

import grimp

from ray_job import provenance

DECIDING = ("ray_job.history", "ray_job.predict", "ray_job.tally")
ELSEWHERE = {
    "ray_job.lists",  # outcomes and scores read back
    "ray_job.outcomes",  # how outcomes become a release's rows: made anew with every run
    "ray_job.scoring",  # how many days' sales the outcomes carry beside the predictions
    "ray_job.plan",  # the files of a chunk, which its digest names
    "ray_job.settings",  # its values are in the digest
}


def source(module):
    path = module.removeprefix("ray_job.").replace(".", "/")
    return f"{path}/__init__.py" if module == "ray_job.features" else f"{path}.py"


def test_every_module_that_decides_a_prediction_is_in_the_digest():
    graph = grimp.build_graph("ray_job", exclude_type_checking_imports=True)
    found = set(DECIDING)
    for module in DECIDING:
        found |= graph.find_upstream_modules(module)
    found = {one for one in found if not one.startswith("ray_job.bucket")} - ELSEWHERE
    assert {source(one) for one in found} <= set(provenance.SOURCES)
