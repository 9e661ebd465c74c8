"""Promotion: which models need a comparison, and which are refused after it."""

from datetime import UTC, datetime

import pytest

from ray_job.backtest.promotion import needs_comparison, refusal
from ray_job.model.registry import Promotion


def promotions(*versions):
    moment = datetime(2026, 11, 23, tzinfo=UTC)
    return [Promotion(version=name, sha256="0" * 64, promoted_at=moment) for name in versions]


@pytest.mark.parametrize(
    ("version", "earlier", "force", "expected"),
    [
        ("a", [], False, False),
        ("b", ["a"], False, True),
        ("b", ["a"], True, False),
        ("a", ["a"], False, False),
        ("a", ["b", "a"], False, False),
        ("c", ["b", "a"], False, True),
    ],
)
def test_only_a_new_model_beside_a_current_one_needs_a_comparison(
    version, earlier, force, expected
):
    assert needs_comparison(version, promotions(*earlier), force=force) is expected


@pytest.mark.parametrize(
    ("current", "candidate", "refused"), [(0.10, 0.09, False), (0.10, 0.10, True), (0.1, 0.2, True)]
)
def test_only_a_lower_error_is_promoted(current, candidate, refused):
    comparison = {
        "models": ["a", "b"],
        "from": "2026-11-01",
        "to": "2026-11-28",
        "first": {"wape": current},
        "second": {"wape": candidate},
    }
    reason = refusal(comparison)
    assert (reason is not None) == refused
    if refused:
        assert reason.startswith(f"b: off by {candidate:.2%} from 2026-11-01 to 2026-11-28")
        assert reason.endswith("--force promotes it all the same")
