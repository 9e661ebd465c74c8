"""Promotion: a registered model becomes the current one if nothing speaks against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ray_job.backtest.model_comparison import compare_models
from ray_job.bucket.errors import InputError
from ray_job.bucket.storage import Storage
from ray_job.model import registry
from ray_job.model.model import load as load_model
from ray_job.model.registry import Promotion
from ray_job.progress import Progress
from ray_job.settings import Settings


@dataclass(frozen=True, slots=True)
class PromotionReport:
    """`promotion` is the current one now; `replaced` is the version that was current before."""

    promotion: Promotion
    replaced: str | None


def needs_comparison(version: str, promotions: Sequence[Promotion], *, force: bool) -> bool:
    """Whether `version` must prove to be better than the current model. Pure.

    `promotions` are all earlier ones. The first model of a bucket, a model that was current
    before, and a forced promotion need no proof.
    """
    was_current = any(promotion.version == version for promotion in promotions)
    return bool(promotions) and not was_current and not force


def refusal(comparison: Mapping[str, Any]) -> str | None:
    """Why the second model of a comparison may not replace the first one; None if it may. Pure.

    `comparison` is a result of `compare_models`. The second model must have the lower WAPE one day
    ahead; an equal one is refused.
    """
    current, candidate = comparison["models"]
    current_wape, candidate_wape = comparison["first"]["wape"], comparison["second"]["wape"]
    if candidate_wape < current_wape:
        return None
    return (
        f"{candidate}: off by {candidate_wape:.2%} from {comparison['from']} to"
        f" {comparison['to']}, where the current model {current} is off by {current_wape:.2%};"
        " --force promotes it all the same"
    )


def promote_model(
    storage: Storage,
    settings: Settings,
    version: str,
    *,
    days: int,
    force: bool,
    now: datetime,
    progress: Progress,
) -> PromotionReport:
    """Make `version` the current model. Idempotent for the model that is current.

    A comparison, where one is needed, is over the last `days` days. Raises InputError if the
    version is not registered or cannot be loaded here, if it is not better than the current model,
    or if there are too few days to compare on.
    """
    promotions = registry.history(storage)
    # A model that cannot be loaded here must not become current, whatever is forced.
    artifact = registry.load(storage, version)
    load_model(artifact.model, artifact.description, artifact.sha256)
    if needs_comparison(version, promotions, force=force):
        comparison = compare_models(
            storage,
            settings,
            promotions[0].version,
            version,
            days=days,
            now=now,
            progress=progress,
        )
        reason = refusal(comparison)
        if reason is not None:
            raise InputError(reason)
    replaced = promotions[0].version if promotions else None
    return PromotionReport(registry.promote(storage, version, now), replaced)
