"""The probes of Kubernetes, and the metrics. They need no token and name no store."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from api import metrics
from api.routes.context import TheService
from api.service import Service
from api.views.formats import MEDIA_TYPES, to_json

router = APIRouter(tags=["running"], include_in_schema=False)


@router.get("/livez")
async def livez(service: TheService) -> Response:
    """Reads nothing. A process is dead if the task that reads the bucket has ended."""
    task = service.refresh_task
    is_dead = task is not None and task.done()
    return _probe_reply(not is_dead, {"alive": not is_dead})


@router.get("/startupz")
async def startupz(service: TheService) -> Response:
    """True after the first read of the bucket, with or without success."""
    has_started = service.refresher.has_read_bucket
    return _probe_reply(has_started, {"started": has_started})


@router.get("/readyz")
async def readyz(service: TheService) -> Response:
    """True with a verified snapshot, stale or not. False before it and while the server stops."""
    is_ready = service.state.snapshot is not None and not service.draining
    return _probe_reply(is_ready, {"ready": is_ready, **_reasons(service)})


@router.get("/metrics")
async def get_metrics(service: TheService) -> Response:
    return Response(await service.metrics.text(), media_type=metrics.MEDIA_TYPE)


def _reasons(service: Service) -> dict[str, Any]:
    state = service.state
    return {
        "release": state.snapshot.name if state.snapshot else None,
        "as_of": state.snapshot.entry.as_of if state.snapshot else None,
        "unread_since": state.unread_since,
        "release_refused": state.refused is not None,
        "grants_refused": state.grants_refused is not None,
        "grants_verified_at": service.refresher.grants.verified_at,
        "stopping": service.draining,
    }


def _probe_reply(is_good: bool, content: dict[str, Any]) -> Response:
    return Response(
        to_json(content),
        200 if is_good else 503,
        {"Content-Type": MEDIA_TYPES["json"], "Cache-Control": "no-store"},
    )
