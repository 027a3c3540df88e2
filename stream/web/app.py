"""The ASGI app: page, API, probes, metrics, guards.

Built from a LineView, a Hub and a Feed; starts nothing.
"""

import hashlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from starlette.middleware import Middleware
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from config.document import MAX_CHARS

from .. import metrics
from . import api
from .access import Access, Gate
from .access import build as build_access
from .described import REFUSALS, describe
from .errors import Full, Gone, Refused
from .feed import Feed
from .guard import BodyLimit, KnownHosts, SameOrigin, SecurityHeaders
from .hub import Hub
from .schemas import PageOut, ProbeOut
from .view import LineView

STATIC = Path(__file__).parent / "static"
_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {}}}}
MAX_BODY_BYTES = 64 * 1024
# A config file may be as long, in bytes as in characters unless much of it is not English.
_LARGER_BODIES = {"/api/v1/config/validate": MAX_CHARS}


def files_mark() -> str:
    """The same word as long as the page's files are the same."""
    files = sorted(path for path in STATIC.iterdir() if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def create_app(
    view: LineView,
    hub: Hub,
    feed: Feed,
    *,
    page_stats: Callable[[], metrics.PageStats],
    loopback_only: bool = True,
    host_names: tuple[str, ...] = (),
    access: Access,
    routers: tuple[APIRouter, ...] = (),
) -> FastAPI:
    """`host_names`: further names this machine may be asked by; `routers`: the other rooms' routes.

    FastAPI's own docs pages load remote scripts: off.
    """
    app = FastAPI(
        title="Linewatch",
        version=version("linewatch"),
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        responses=REFUSALS,
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(KnownHosts, loopback_only=loopback_only, names=host_names),
            Middleware(SameOrigin),
            Middleware(BodyLimit, max_bytes=MAX_BODY_BYTES, larger=_LARGER_BODIES),
            Middleware(Gate, access=access),
        ],
    )
    app.add_exception_handler(Full, _full)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(Gone, _gone)
    app.add_exception_handler(RequestValidationError, _unreadable)
    ours = api.build(view, hub, feed, lambda: PageOut.model_validate(page_stats()))
    for router in (ours, build_access(access), *routers):
        app.include_router(router, dependencies=[Depends(_known_keys_only)])
    _probes(app, view)
    _metrics(app, view, page_stats)
    _pages(app)
    describe(app, access.cookie)
    return app


async def _known_keys_only(request: Request) -> None:
    """Of a query: a key that is misspelt would be left out, and something else than was asked for answered.
    `_` and `t` are what clients put there to be answered by no cache.
    """
    known = [parameter.alias for parameter in request.scope["route"].dependant.query_params]
    unknown = [key for key in request.query_params if key not in (*known, "_", "t")]
    if unknown:
        there_are = f"there are: {', '.join(known)}" if known else "there is none"
        raise HTTPException(422, f"{', '.join(unknown[:5])}: unknown key in the query; {there_are}.")


def _probes(app: FastAPI, view: LineView) -> None:
    @app.get("/live", tags=["probes"])
    async def live() -> ProbeOut:
        """The event loop turns."""
        return ProbeOut(ok=True)

    @app.get("/ready", tags=["probes"], responses={503: {"model": ProbeOut}})
    async def ready(response: Response) -> ProbeOut:
        """Models are warm and events have somewhere to go; else 503 with the reasons."""
        reasons = list(view.not_ready())
        response.status_code = 503 if reasons else 200
        return ProbeOut(ok=not reasons, reasons=reasons)

    @app.get("/startup", tags=["probes"], responses={503: {"model": ProbeOut}})
    async def startup(response: Response) -> ProbeOut:
        """Whether everything was started once; stays true."""
        started = view.started()
        response.status_code = 200 if started else 503
        return ProbeOut(ok=started, reasons=[] if started else ["Linewatch is starting.", *view.not_ready()])


def _metrics(app: FastAPI, view: LineView, page_stats: Callable[[], metrics.PageStats]) -> None:
    registry = metrics.registry(view, page_stats)

    @app.get("/metrics", tags=["probes"], response_class=Response, responses=_TEXT)
    async def exposition() -> Response:
        """Prometheus text."""
        return Response(metrics.exposition(registry), media_type=metrics.CONTENT_TYPE)


def _pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.get("/api/v1", include_in_schema=False)
    async def described() -> RedirectResponse:
        return RedirectResponse("/api/v1/openapi.json")

    app.mount("/static", StaticFiles(directory=STATIC), name="static")


async def _full(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 503, {"retry-after": "5"})


async def _refused(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 409)


async def _gone(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 404)


async def _unreadable(request: Request, error: Exception) -> JSONResponse:
    """One sentence, without the value, in place of a list for machines."""
    assert isinstance(error, RequestValidationError)
    told = [": ".join(filter(None, (_place(mistake), _words(mistake)))) for mistake in error.errors()]
    return JSONResponse({"detail": "; ".join(told[:5])}, 422)


def _place(mistake: dict[str, Any]) -> str:
    """Which key; of the body as a whole, what that should have been; "" for what its keys say together."""
    inside = [str(part) for part in mistake["loc"][1:]]
    if not inside and mistake["type"] == "value_error":
        return ""
    if not inside or mistake["type"] == "json_invalid":
        return "the body, expected a JSON object sent as application/json"
    return ".".join(inside)


def _words(mistake: dict[str, Any]) -> str:
    """As the config file's mistakes are called."""
    if mistake["type"] == "extra_forbidden":
        return "unknown key"
    return str(mistake["msg"]).removeprefix("Value error, ")
