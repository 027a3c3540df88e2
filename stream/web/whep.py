"""Routes of WHEP: POST an offer, get an answer; DELETE what the answer's Location names."""

from collections.abc import Callable

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import Response

from .rtc import Whep
from .schemas import ErrorOut

_SDP = "application/sdp"
_ANSWERS: dict[int | str, dict[str, object]] = {
    201: {"content": {_SDP: {}}, "description": "The SDP answer; Location ends the session"},
    404: {"model": ErrorOut, "description": "No such camera"},
    409: {"model": ErrorOut, "description": "An offer that can't be answered"},
    415: {"model": ErrorOut, "description": "Not application/sdp"},
    503: {"model": ErrorOut, "description": "Too many viewers"},
}


def build(whep: Whep, known: Callable[[str], None]) -> APIRouter:
    """`known(camera)` raises 404 for a camera that there isn't."""
    router = APIRouter(prefix="/whep", tags=["video"])

    @router.post("/{camera}", status_code=201, responses=_ANSWERS, response_class=Response)
    async def offer(camera: str, request: Request, overlay: bool = True) -> Response:
        """A camera's video: VP8, encoded once for all who watch."""
        known(camera)
        if request.headers.get("content-type", "").partition(";")[0].strip() != _SDP:
            raise HTTPException(415, f"An offer is {_SDP}.")
        text = (await request.body()).decode("utf-8", "replace")
        key, answer = await whep.open(camera, text, overlay, request.state.is_allowed)
        return Response(answer, 201, {"location": f"/whep/{camera}/{key}"}, _SDP)

    @router.delete("/{camera}/{key}", responses={404: {"model": ErrorOut, "description": "No such session"}})
    async def end(camera: str, key: str) -> dict[str, bool]:
        """End it; also done when the connection is lost."""
        if not await whep.end(key):
            raise HTTPException(404, "There is no such session.")
        return {"ended": True}

    return router
