"""REST under /api/v1: what a page, a script or another system may ask.

Reading only; every list is bounded.
"""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from starlette.responses import Response

from .. import overlay
from .feed import Feed
from .hub import Hub
from .mjpeg import EVENTS_TYPE, IMAGE_START, MJPEG_START, MJPEG_TYPE, LiveResponse, event, image_part, part
from .scene import FULL, FULL_PLAIN, LIVE, PLAIN
from .schemas import (
    CameraOut,
    ErrorOut,
    IncidentOut,
    PageOut,
    ScaleOut,
    StatsOut,
    cameras_out,
    incidents_out,
    stats_out,
)
from .view import LineView

MAX_INCIDENTS = 200
MAX_CAMERAS = 256  # as many as a config file may name: the grid asks for all of them at once
_Responses = dict[int | str, dict[str, Any]]
_JPEG: _Responses = {200: {"content": {"image/jpeg": {}}, "description": "One picture"}}
_MJPEG: _Responses = {
    200: {"content": {"multipart/x-mixed-replace": {}}, "description": "Pictures until you close"}
}
_SSE: _Responses = {
    200: {"content": {EVENTS_TYPE: {}}, "description": "The line's state, about once a second"}
}
_NO_CAMERA: _Responses = {404: {"model": ErrorOut, "description": "No such camera"}}
_FULL: _Responses = {503: {"model": ErrorOut, "description": "Too many viewers"}}

Overlay = Annotated[bool, Query(description="With the anomaly map and boxes")]


def build(view: LineView, hub: Hub, feed: Feed, page: Callable[[], PageOut]) -> APIRouter:
    """The router; the handlers run on the event loop and never wait for anything but a viewer's place."""
    router = APIRouter(prefix="/api/v1")
    _line_routes(router, view, feed, page)
    _picture_routes(router, view, hub)
    return router


def _line_routes(router: APIRouter, view: LineView, feed: Feed, page: Callable[[], PageOut]) -> None:
    @router.get("/cameras", tags=["line"])
    async def cameras() -> list[CameraOut]:
        """Every camera with its state."""
        return cameras_out(view)

    @router.get("/cameras/{name}", tags=["line"], responses=_NO_CAMERA)
    async def camera(name: str) -> CameraOut:
        """One camera with its state."""
        known(view, name)
        return next(camera for camera in cameras_out(view) if camera.name == name)

    @router.get("/stats", tags=["line"])
    async def stats() -> StatsOut:
        """Counters since start."""
        return stats_out(view.stats(), page())

    @router.get("/events", tags=["line"])
    async def events(
        limit: Annotated[int, Query(ge=1, le=MAX_INCIDENTS)] = 50, camera: str | None = None
    ) -> list[IncidentOut]:
        """The newest incidents, newest first; with `camera`, those of one camera among the newest."""
        newest = incidents_out(view, MAX_INCIDENTS if camera else limit)
        return [incident for incident in newest if camera in (None, incident.camera)][:limit]

    @router.get("/scale", tags=["line"])
    async def scale() -> ScaleOut:
        """The heat map's colours."""
        return ScaleOut(alarm=1.0, top=overlay.SCALE_TOP, stops=overlay.legend())

    @router.get("/live", tags=["line"], responses=_SSE | _FULL, response_class=Response)
    async def live() -> Response:
        """Server-sent events: each is the line's whole state."""
        return LiveResponse(feed.listen(), event, EVENTS_TYPE)


def _picture_routes(router: APIRouter, view: LineView, hub: Hub) -> None:
    picture: dict[str, Any] = {"tags": ["pictures"], "response_class": Response}  # of no JSON

    @router.get("/cameras/{name}/snapshot", responses=_JPEG | _NO_CAMERA | _FULL, **picture)
    async def snapshot(name: str, overlay: Overlay = True) -> Response:
        """The newest picture in full size, or the OFFLINE picture."""
        known(view, name)
        picture = await hub.snapshot(name, FULL if overlay else FULL_PLAIN)
        if picture is None:
            raise HTTPException(503, "Linewatch is stopping.")
        headers = {"cache-control": "no-store", "x-live": str(int(picture.live))}
        return Response(picture.jpeg, media_type="image/jpeg", headers=headers)

    @router.get("/cameras/{name}/mjpeg", responses=_MJPEG | _NO_CAMERA | _FULL, **picture)
    async def mjpeg(name: str, overlay: Overlay = True) -> Response:
        """Pictures of one camera, newest first; for an <img>, VLC or curl."""
        known(view, name)
        return LiveResponse(
            hub.watch([name], LIVE if overlay else PLAIN), image_part, MJPEG_TYPE, IMAGE_START
        )

    @router.get("/mjpeg", responses=_MJPEG | _NO_CAMERA | _FULL, **picture)
    async def mjpeg_of_many(
        camera: Annotated[list[str], Query(min_length=1, max_length=MAX_CAMERAS)], overlay: Overlay = True
    ) -> Response:
        """Pictures of several cameras over one connection (browsers open six at most); part header
        X-Camera.
        """
        for name in camera:
            known(view, name)
        viewer = hub.watch(dict.fromkeys(camera), LIVE if overlay else PLAIN)
        return LiveResponse(viewer, part, MJPEG_TYPE, MJPEG_START)


def known(view: LineView, name: str) -> None:
    """Raises 404 with the names that there are."""
    names = [camera.name for camera in view.cameras()]
    if name not in names:
        raise HTTPException(404, f"There is no camera of that name; there are: {', '.join(names) or 'none'}.")
