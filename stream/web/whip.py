"""Routes of WHIP (RFC 9725): a camera or browser POSTs an offer and pushes its video; DELETE ends it.

A push is let in by its camera's own bearer token (`source.token`), not by the page's users: a camera has no
password.
"""

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import Response

from ..sources.desk import Desk, PushRefused
from .schemas import ErrorOut

_SDP = "application/sdp"
_ANSWERS: dict[int | str, dict[str, object]] = {
    201: {"content": {_SDP: {}}, "description": "The SDP answer; Location ends the session"},
    400: {"model": ErrorOut, "description": "An offer that can't be answered"},
    401: {"model": ErrorOut, "description": "The bearer token is missing or wrong"},
    404: {"model": ErrorOut, "description": "No such camera waits for a push"},
    409: {"model": ErrorOut, "description": "The camera is receiving already"},
    415: {"model": ErrorOut, "description": "Not application/sdp"},
}


def build(desk: Desk) -> APIRouter:
    """`desk` is where sources of type `webrtc`, mode `whip`, wait."""
    router = APIRouter(prefix="/whip", tags=["video"])

    @router.post("/{camera}", status_code=201, responses=_ANSWERS, response_class=Response)
    async def push(camera: str, request: Request) -> Response:
        """Video of a camera that is configured with `source: {type: webrtc, mode: whip}`."""
        if request.headers.get("content-type", "").partition(";")[0].strip() != _SDP:
            raise HTTPException(415, f"An offer is {_SDP}.")
        offer = (await request.body()).decode("utf-8", "replace")
        try:
            key, answer = await desk.push(camera, request.headers.get("authorization"), offer)
        except PushRefused as refused:
            headers = {"www-authenticate": "Bearer"} if refused.status == 401 else None
            raise HTTPException(refused.status, str(refused), headers) from None
        return Response(answer, 201, {"location": f"/whip/{camera}/{key}"}, _SDP)

    @router.delete("/{camera}/{key}", responses={404: {"model": ErrorOut, "description": "No such session"}})
    async def end(camera: str, key: str) -> dict[str, bool]:
        """End it; also done when the connection is lost."""
        if not desk.end(camera, key):
            raise HTTPException(404, "There is no such session.")
        return {"ended": True}

    return router
