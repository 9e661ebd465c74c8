"""Is it alive, has it started, is it ready: three different questions."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from api import metrics
from api.formats import MEDIA_TYPES, to_json
from api.service import Service, TheService

router = APIRouter(tags=["running"], include_in_schema=False)


@router.get("/livez")
async def livez(service: TheService) -> Response:
    """No I/O. Dead is a process whose look at the bucket ended by an error of its own."""
    task = service.refresh_task
    is_dead = task is not None and task.done()
    return _state(not is_dead, {"alive": not is_dead})


@router.get("/startupz")
async def startupz(service: TheService) -> Response:
    """True after the first look at the bucket, whatever it found."""
    return _state(service.refresher.looked, {"started": service.refresher.looked})


@router.get("/readyz")
async def readyz(service: TheService) -> Response:
    """True with a verified snapshot, stale or not; false before it, and while stopping."""
    is_ready = service.served.snapshot is not None and not service.draining
    return _state(is_ready, {"ready": is_ready, **_reasons(service)})


@router.get("/metrics")
async def get_metrics(service: TheService) -> Response:
    return Response(service.metrics.text(), media_type=metrics.MEDIA_TYPE)


def _reasons(service: Service) -> dict[str, Any]:
    served = service.served
    return {
        "release": served.snapshot.name if served.snapshot else None,
        "as_of": served.snapshot.entry.as_of if served.snapshot else None,
        "unread_since": served.unread_since,
        "release_refused": served.refused is not None,
        "stopping": service.draining,
    }


def _state(is_good: bool, content: dict[str, Any]) -> Response:
    return Response(
        to_json(content),
        200 if is_good else 503,
        {"Content-Type": MEDIA_TYPES["json"], "Cache-Control": "no-store"},
    )
