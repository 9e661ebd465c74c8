"""The application on the port of the probes."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import ProblemKind, problem_response

PATHS = frozenset({"/livez", "/startupz", "/readyz", "/metrics"})
_NOT_HERE = ProblemKind(404, "not-found", "Not Found")


class ProbesOnly:
    """`app`, of which only the probes and the metrics can be reached."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in PATHS:
            answer = problem_response(_NOT_HERE, "only the probes are served here", scope["path"])
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)
