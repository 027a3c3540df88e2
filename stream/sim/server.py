"""The RTSP server: several cameras on one port, until it is stopped."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from urllib.parse import quote

from .. import reach
from .camera import SimCamera
from .messages import MAX_HEAD_BYTES
from .session import Door, Session

MAX_SESSIONS = 64


class CannotListen(Exception):
    """The address is taken, or not this machine's; one sentence for a person."""

    user_message = True


class SimServer:
    """`async with` from `serving`. All methods belong to the event loop."""

    def __init__(self, cameras: Sequence[SimCamera], door: Door, host: str, secure: bool = False) -> None:
        self.cameras = {camera.name: camera for camera in cameras}
        self.host, self.port = host, 0
        self._door, self._scheme = door, "rtsps" if secure else "rtsp"
        self._sessions: set[asyncio.Task[None]] = set()
        self._films: list[asyncio.Task[None]] = []

    def url(self, name: str) -> str:
        """The address of a camera, without who may look."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self._scheme}://{host}:{self.port}/{quote(name)}"

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client from the first byte to the last."""
        task = asyncio.current_task()
        assert task is not None
        everybody_refuses = all(camera.refuses() for camera in self.cameras.values())
        if everybody_refuses or len(self._sessions) >= MAX_SESSIONS:
            writer.transport.abort()
            return
        self._sessions.add(task)
        try:
            await Session(self.cameras, self._door, reader, writer).run()
        except asyncio.CancelledError:
            # Only `stop` cancels a session; asyncio's streams would log a cancelled one as a failure.
            writer.transport.abort()
        finally:
            self._sessions.discard(task)

    async def until(self, stop: asyncio.Event) -> None:
        """Wait for `stop`; raises what ended a camera's show (FolderError, ScheduleError) if that comes
        first.
        """
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([stopped, *self._films], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        for film in done & set(self._films):
            film.result()

    def start(self) -> None:
        """Every camera begins to film."""
        self._films = [asyncio.create_task(c.run(), name=f"film {c.name}") for c in self.cameras.values()]

    async def stop(self) -> None:
        """No more pictures; every viewer is told, and every session that is left ends."""
        for film in self._films:
            film.cancel()
        await asyncio.gather(*self._films, return_exceptions=True)
        for camera in self.cameras.values():
            camera.close()
        await self._hang_up()

    async def _hang_up(self) -> None:
        for task in self._sessions:
            task.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)


@contextlib.asynccontextmanager
async def serving(
    cameras: Sequence[SimCamera],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    door: Door | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[SimServer]:
    """Serve while inside; port 0 takes a free one (`server.port`), `tls` makes it rtsps.

    Raises CannotListen.
    """
    server = SimServer(cameras, door or Door(), host, secure=tls is not None)
    try:
        listener = await asyncio.start_server(server.connected, host, port, limit=MAX_HEAD_BYTES, ssl=tls)
    except OSError as error:
        raise CannotListen(
            f"camera-sim: cannot listen on {host}:{port}: {reach.why(error)}; choose another --port or --host"
        ) from error
    server.port = listener.sockets[0].getsockname()[1]
    server.start()
    try:
        yield server
    finally:
        listener.close()
        await server.stop()
        await listener.wait_closed()
