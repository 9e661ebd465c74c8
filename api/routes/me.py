"""`GET /v1/me`: who the caller is, and what he may see."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from api.routes.context import Context, RequestContext
from api.routes.documentation import SIGNED_IN, AnswerSpec, documented
from api.routes.replies import reply_json
from api.views.access_schemas import Me

router = APIRouter(tags=["caller"])


@router.get(
    "/v1/me",
    operation_id="getMe",
    summary="Who the caller is, and what he may see",
    description="What the token says of the caller, and what the grants give him.",
    **documented(AnswerSpec("me", Me, "The caller."), *SIGNED_IN),
)
async def get_me(context: Context) -> Response:
    # It says when the token ends.
    return reply_json(context, _me(context), is_cacheable=False)


def _me(context: RequestContext) -> dict[str, Any]:
    caller, access, snapshot = context.caller, context.access, context.state.snapshot
    return {
        "sign_in": not caller.is_local,
        "issuer": None if caller.is_local else caller.issuer,
        "subject": None if caller.is_local else caller.subject,
        "email": caller.verified_email,
        "expires_at": caller.expires,
        "role": "operator" if access.operator else "manager",
        "every_store": access.every_store,
        "stores": None if access.every_store else sorted(access.stores),
        "stores_total": len(snapshot.visible_rows(access)) if snapshot else 0,
    }
