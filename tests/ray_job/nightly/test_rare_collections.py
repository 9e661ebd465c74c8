"""Thresholds of the garbage collector during a run."""

import gc

import pytest

from ray_job.nightly.rare_collections import rare_collections


@pytest.mark.parametrize("error", [None, LookupError])
def test_collections_are_rare_inside_and_as_before_afterwards(error):
    before = gc.get_threshold()
    try:
        with rare_collections():
            assert gc.get_threshold()[0] > before[0]
            assert gc.isenabled()
            if error:
                raise error
    except LookupError:
        pass
    assert gc.get_threshold() == before


def test_two_runs_in_one_process_leave_the_thresholds_of_before_the_first():
    before = gc.get_threshold()
    first, second = rare_collections(), rare_collections()
    first.__enter__()
    rare = gc.get_threshold()
    second.__enter__()
    first.__exit__(None, None, None)
    assert gc.get_threshold() == rare
    second.__exit__(None, None, None)
    assert gc.get_threshold() == before != rare
