"""The HTTP application: which address gives what. GET and HEAD only, no bodies, nothing that changes anything."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from streamsvc.log import logger
from streamsvc.web.events import EventStreams
from streamsvc.web.metrics import CONTENT_TYPE, Metrics
from streamsvc.web.status import document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from streamsvc.web.looking import DiskLooks
    from streamsvc.web.status import Watched

PAGE = Path(__file__).parent / "page"
_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}


def make_app(watched: Watched, looks: DiskLooks, hosts: Sequence[str], *, is_per_symbol: bool) -> ASGIApp:
    """The application.

    Args:
        watched: The recorder.
        looks: What is read off the loop.
        hosts: The names under which it may be asked, so that no foreign page can have a browser ask it by a name of
            its own (DNS rebinding); `*` for any.
        is_per_symbol: `METRICS_PER_SYMBOL`.
    """
    answers = _Answers(watched, looks, Metrics(watched, is_per_symbol=is_per_symbol))
    app = Starlette(
        routes=[
            Route("/healthz", answers.healthz),
            Route("/readyz", answers.readyz),
            Route("/status", answers.status),
            Route("/metrics", answers.metrics),
            Route("/events", EventStreams(watched).open),
            *_page_routes(),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)],
        exception_handlers={HTTPException: _refuse},
    )
    return partial(_guarded, app)


def _page_routes() -> list[Route]:
    """The page's files, which are few and small, from memory: nothing that is asked for becomes a path."""
    routes = []
    for path in sorted(PAGE.iterdir()):
        body, media_type = path.read_bytes(), _MEDIA_TYPES[path.suffix]

        async def answer(_request: Request, body: bytes = body, media_type: str = media_type) -> Response:
            return Response(body, media_type=media_type)

        routes.append(Route("/" if path.name == "index.html" else f"/{path.name}", answer))
    return routes


class _Answers:
    """What is answered."""

    def __init__(self, watched: Watched, looks: DiskLooks, metrics: Metrics) -> None:
        self._watched = watched
        self._looks = looks
        self._metrics = metrics

    async def healthz(self, _request: Request) -> Response:
        """Alive: the loop answers, and the writer makes progress or is in a pause that it has declared."""
        is_alive = self._watched.is_alive
        return PlainTextResponse("alive\n" if is_alive else "the writer hangs\n", 200 if is_alive else 503)

    async def readyz(self, _request: Request) -> Response:
        """Ready: it records, nothing is stalled, the disk has room."""
        reasons = self._watched.unready()
        return PlainTextResponse("\n".join(reasons or ["ready"]) + "\n", 503 if reasons else 200)

    async def status(self, _request: Request) -> Response:
        """Everything that the page shows."""
        found = document(self._watched, await self._looks.fresh())
        return Response(orjson.dumps(found), media_type="application/json")

    async def metrics(self, _request: Request) -> Response:
        """What Prometheus scrapes."""
        return Response(self._metrics.exposition(await self._looks.fresh()), media_type=CONTENT_TYPE)


async def _refuse(_request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, HTTPException)
    return PlainTextResponse(f"{refusal.detail}\n", refusal.status_code, headers=refusal.headers)


async def _guarded(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Add the headers that every answer has; a fault of ours costs its answer only, since recording must go on."""
    if scope["type"] != "http":
        return
    is_begun = False

    async def send_with_headers(message: Message) -> None:
        nonlocal is_begun
        if message["type"] == "http.response.start":
            is_begun = True
            message = {**message, "headers": _with_ours(message.get("headers", ()))}
        await send(message)

    try:
        if scope["method"] in ("GET", "HEAD"):
            await app(scope, receive, send_with_headers)
        else:
            refusal = PlainTextResponse("only GET and HEAD\n", 405, headers={"allow": "GET, HEAD"})
            await refusal(scope, receive, send_with_headers)
    except Exception:  # noqa: BLE001 - a page must not end a recording
        logger.exception("http_failed", path=str(scope.get("path", ""))[:200])
        if not is_begun:
            await PlainTextResponse("an error of ours; see the log\n", 500)(scope, receive, send_with_headers)


def _with_ours(headers: Any) -> list[tuple[bytes, bytes]]:
    own = [(name, value) for name, value in headers if name.lower() not in _HEADERS]
    return [*own, *_HEADERS.items()]
