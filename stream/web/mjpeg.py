"""Endless answers: pictures as multipart MJPEG, the line's state as server-sent events.

Both read a viewer's places and end when the viewer is closed, the reader has gone, reads nothing for a
minute or may look no more.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .access import until_forbidden
from .scene import Picture
from .viewers import Viewer

T = TypeVar("T")

# Whoever takes nothing for so long sleeps or never meant to read, and others wait for the seat.
_STUCK_S = 60.0

BOUNDARY = "linewatch"
MJPEG_TYPE = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
MJPEG_START = f"--{BOUNDARY}\r\n".encode()
EVENTS_TYPE = "text/event-stream"


# An <img> shows a part when it has read the head of the next one. So that nobody sees the picture before the
# newest, that head is sent at once, and can't say how long the part will be.
IMAGE_START = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\n\r\n".encode()


def image_part(picture: Picture) -> bytes:
    """One picture for an <img>, and the head of the next; comes after IMAGE_START."""
    return picture.jpeg + b"\r\n" + IMAGE_START


def part(picture: Picture) -> bytes:
    """One part with its camera, time and length, and the next boundary; comes after MJPEG_START."""
    head = (
        f"Content-Type: image/jpeg\r\nContent-Length: {len(picture.jpeg)}\r\nX-Camera: {picture.camera}\r\n"
        f"X-Taken-At: {picture.taken_at:.6f}\r\nX-Live: {int(picture.live)}\r\n\r\n"
    )
    return head.encode() + picture.jpeg + b"\r\n" + MJPEG_START


def event(message: bytes) -> bytes:
    """One server-sent event; `message` is JSON without line breaks."""
    return b"data: " + message + b"\n\n"


class LiveResponse(Response, Generic[T]):
    """Sends what comes into a viewer's places until the viewer is closed or the reader has gone.

    The viewer's seat is given back in every case. A reader that is slow blocks only this answer's own task,
    and is left when it takes nothing for a minute.
    """

    def __init__(
        self, viewer: Viewer[T], write: Callable[[T], bytes], media_type: str, start: bytes = b""
    ) -> None:
        self.viewer = viewer
        self.write = write
        self.start = start
        self.status_code = 200
        self.background = None
        self.media_type = media_type
        # A proxy that collects an endless answer would show nothing for ever.
        self.init_headers(
            {"content-type": media_type, "cache-control": "no-store", "x-accel-buffering": "no"}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.viewer:
            await _first_of(self._stream(send), _gone(receive), until_forbidden(scope))

    async def _stream(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if self.start:
            await send({"type": "http.response.body", "body": self.start, "more_body": True})
        while (item := await self.viewer.next()) is not None:
            try:
                async with asyncio.timeout(_STUCK_S):
                    await send({"type": "http.response.body", "body": self.write(item), "more_body": True})
            except TimeoutError:
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Run all until the first is done, end the others, pass on what went wrong."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
