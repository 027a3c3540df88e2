"""Real servers for system tests, each as a context manager that leaves nothing running."""

# --- the camera simulator, in a thread with its own event loop -----------------------------------

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from stream.sim.auth import Credentials
from stream.sim.camera import SimCamera
from stream.sim.schedule import Entry, ScheduleWriter, read
from stream.sim.server import SimServer, serving
from stream.sim.session import Door
from stream.sim.shown import Show
from stream.sim.shows import PatternShow

_T = TypeVar("_T")


class RunningSim:
    """A camera simulator that serves until its context ends. All methods may be called from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, server: SimServer, door: Door, folder: Path | None):
        self._loop, self._server, self._door, self._folder = loop, server, door, folder
        self.port = server.port

    def url(self, name: str = "top", *, credentials: Credentials | None = None) -> str:
        """rtsp:// address; with credentials inside, percent-encoded, when given."""
        plain = self._server.url(name)
        if credentials is None:
            return plain
        user, password = (quote(text, safe="") for text in (credentials.username, credentials.password))
        return plain.replace("://", f"://{user}:{password}@")

    def set(self, parameter: str, value: object, name: str = "top") -> None:
        """`phase` learn or live, or a fault: stall, freeze, garbage, refuse (s), drop, lose (0–1), kill."""
        self._call(lambda: self._server.cameras[name].set(parameter, str(value)))

    def state(self, name: str = "top") -> Mapping[str, str]:
        """phase, viewers, frames, dropped, skipped."""
        return self._call(lambda: self._server.cameras[name].state())

    def schedule(self, name: str = "top") -> list[Entry]:
        """What was shown so far."""
        assert self._folder is not None
        return read(self._folder / f"{name}.jsonl")

    def _call(self, what: Callable[[], _T]) -> _T:
        async def there() -> _T:
            return what()

        return asyncio.run_coroutine_threadsafe(there(), self._loop).result(5)


@contextmanager
def rtsp_sim(
    shows: Mapping[str, Show] | None = None,
    *,
    fps: float = 10,
    credentials: Credentials | None = None,
    schemes: tuple[str, ...] = ("digest", "basic"),
    host: str = "127.0.0.1",
    port: int = 0,
    schedule: Path | None = None,
    tls: ssl.SSLContext | None = None,
) -> Iterator[RunningSim]:
    """One small machined line called `top` unless told otherwise; `schedule` is a folder."""
    shows = shows or {"top": PatternShow("machined", 1, (320, 240))}
    door = Door(credentials, schemes)
    ready: list[RunningSim | BaseException] = []
    is_ready, stop = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        cameras = [
            SimCamera(name, show, fps, ScheduleWriter(schedule / f"{name}.jsonl") if schedule else None)
            for name, show in shows.items()
        ]
        async with serving(cameras, host=host, port=port, door=door, tls=tls) as server:
            ready.append(RunningSim(loops[0], server, door, schedule))
            is_ready.set()
            await stop.wait()

    def thread() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            ready.append(error)
            is_ready.set()
            raise

    server_thread = threading.Thread(target=thread, name="rtsp_sim")
    server_thread.start()
    is_ready.wait(10)
    try:
        if isinstance(ready[0], BaseException):
            raise ready[0]
        yield ready[0]
    finally:
        if loops and not loops[0].is_closed():
            loops[0].call_soon_threadsafe(stop.set)
        server_thread.join(10)
