"""One RTSP connection: reads requests, answers them, and attaches a viewer to a camera."""

import asyncio
import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from . import rtp
from .auth import Credentials, accepted, challenges
from .camera import Outlet, SimCamera, Viewer
from .faults import BadFault
from .messages import (
    MAX_HEAD_BYTES,
    BadMessage,
    Request,
    answer,
    body_length,
    parse_head,
    parse_parameters,
    parse_transport,
)
from .outlets import TcpOutlet, UdpOutlet, open_udp

_METHODS = "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, TEARDOWN, GET_PARAMETER, SET_PARAMETER"
_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Door:
    """Who is let in: no credentials, everybody; `schemes` of `digest`, `basic` in the order they are
    offered.
    """

    credentials: Credentials | None = None
    schemes: tuple[str, ...] = ("digest", "basic")


class _Answer(Exception):
    def __init__(self, status: int, *headers: tuple[str, str]) -> None:
        self.status, self.headers = status, list(headers)


class Session:
    """`run` until the client goes, or its connection is cut."""

    def __init__(
        self,
        cameras: Mapping[str, SimCamera],
        door: Door,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._cameras, self._door = cameras, door
        self._reader, self._writer = reader, writer
        self._id, self._nonce = secrets.token_hex(8), secrets.token_hex(16)
        self._camera: SimCamera | None = None
        self._outlet: Outlet | None = None
        self._viewer: Viewer | None = None

    async def run(self) -> None:
        """Answer requests one by one. Never raises for what a client sends or does."""
        try:
            while request := await self._read():
                self._writer.write(await self._handle(request))
                if self._viewer is None:
                    await self._writer.drain()  # while pictures flow, a slow reader must not stop the answers
        except BadMessage:
            self._writer.write(answer(400, []))
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client is gone, which is how most sessions end, or broke TLS
        finally:
            self._leave()
            self._writer.close()
            await self._closed()

    async def _closed(self) -> None:
        """Wait a moment for what is still in the buffer; a client that doesn't read it gets no more."""
        try:
            async with asyncio.timeout(1.0):
                await self._writer.wait_closed()
        except OSError:  # TimeoutError among them
            self._writer.transport.abort()

    async def _read(self) -> Request | None:
        """The next request; RTCP that the client interleaves is skipped. None at the end."""
        while (first := await self._reader.read(1)) == b"$":
            header = await self._reader.readexactly(3)
            await self._reader.readexactly(int.from_bytes(header[1:], "big"))
        if not first:
            return None
        try:
            head = first + await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as error:
            raise BadMessage("a head without an end") from error
        if len(head) > MAX_HEAD_BYTES:
            raise BadMessage("a head that is too long")
        request = parse_head(head.lstrip(b"\r\n"))
        body = await self._reader.readexactly(body_length(request.headers))
        return Request(request.method, request.url, request.headers, body)

    async def _handle(self, request: Request) -> bytes:
        headers = [("CSeq", request.headers.get("cseq", "0")), ("Server", "linewatch-camera-sim")]
        try:
            status, more, body = await self._dispatch(request)
        except _Answer as quick:
            status, more, body = quick.status, quick.headers, ""
        return answer(status, headers + more, body)

    async def _dispatch(self, request: Request) -> tuple[int, list[tuple[str, str]], str]:
        if request.method == "OPTIONS":
            return 200, [("Public", _METHODS)], ""
        if request.method not in _METHODS.split(", "):
            raise _Answer(405, ("Allow", _METHODS))
        self._authenticate(request)
        camera = self._find(request)
        if request.method == "SETUP":
            return await self._setup(request, camera)
        plain = {
            "DESCRIBE": self._describe,
            "PLAY": self._play,
            "PAUSE": self._pause,
            "TEARDOWN": self._teardown,
            "GET_PARAMETER": self._get_parameter,
            "SET_PARAMETER": self._set_parameter,
        }
        return plain[request.method](request, camera)

    def _authenticate(self, request: Request) -> None:
        door = self._door
        if door.credentials is None:
            return
        said = request.headers.get("authorization")
        if not accepted(said, request.method, door.credentials, door.schemes, self._nonce):
            raise _Answer(401, *(("WWW-Authenticate", c) for c in challenges(door.schemes, self._nonce)))

    def _find(self, request: Request) -> SimCamera:
        camera = self._cameras.get(request.path)
        if camera is None:
            raise _Answer(404)
        if camera.refuses() and request.method != "SET_PARAMETER":
            raise _Answer(503)
        return camera

    def _describe(self, request: Request, camera: SimCamera) -> tuple[int, list[tuple[str, str]], str]:
        base = request.url.rstrip("/") + "/"
        host = self._writer.get_extra_info("sockname")[0]
        return 200, [("Content-Base", base), ("Content-Type", "application/sdp")], description(camera, host)

    async def _setup(self, request: Request, camera: SimCamera) -> tuple[int, list[tuple[str, str]], str]:
        transport = parse_transport(request.headers.get("transport", ""))
        if transport is None:
            raise _Answer(461)
        self._leave()
        self._camera = camera
        a, b = transport.ports
        if transport.tcp:
            self._outlet = TcpOutlet(self._writer, transport.ports)
            said = f"RTP/AVP/TCP;unicast;interleaved={a}-{b};ssrc={camera.ssrc:08X}"
        else:
            peer, here = (
                self._writer.get_extra_info("peername")[0],
                self._writer.get_extra_info("sockname")[0],
            )
            self._outlet = outlet = await open_udp(here, self._writer, (peer, transport.ports))
            c, d = outlet.server_ports
            said = f"RTP/AVP;unicast;client_port={a}-{b};server_port={c}-{d};ssrc={camera.ssrc:08X}"
        return 200, [("Transport", said), self._session_header(timeout=True)], ""

    def _play(self, request: Request, camera: SimCamera) -> tuple[int, list[tuple[str, str]], str]:
        self._check_session(request)
        if self._outlet is None or camera is not self._camera:
            raise _Answer(455)
        if self._viewer is None:
            self._viewer = Viewer(self._outlet)
            # Attached after the answer is written: no packet may come before it.
            asyncio.get_running_loop().call_soon(self._begin)
        info = f"url={request.url.rstrip('/')}/trackID=0;seq={self._viewer.next_sequence}"
        return 200, [("Range", "npt=now-"), ("RTP-Info", info), self._session_header()], ""

    def _begin(self) -> None:
        if self._camera and self._viewer:
            self._camera.attach(self._viewer)

    def _pause(self, request: Request, camera: SimCamera) -> tuple[int, list[tuple[str, str]], str]:
        self._check_session(request)
        self._stop_viewing()
        return 200, [self._session_header()], ""

    def _teardown(self, request: Request, camera: SimCamera) -> tuple[int, list[tuple[str, str]], str]:
        self._check_session(request)
        self._leave()
        return 200, [], ""

    def _get_parameter(self, request: Request, camera: SimCamera) -> tuple[int, list[tuple[str, str]], str]:
        if not request.body:
            return 200, [self._session_header()], ""  # keep-alive
        state = camera.state()
        asked = [name.strip().rstrip(":") for name in request.body.decode("utf-8", "replace").splitlines()]
        body = "".join(f"{name}: {state[name]}\r\n" for name in asked if name in state)
        return 200, [("Content-Type", "text/parameters")], body

    def _set_parameter(self, request: Request, camera: SimCamera) -> tuple[int, list[tuple[str, str]], str]:
        try:
            for name, value in parse_parameters(request.body).items():
                camera.set(name, value)
        except BadFault as error:
            return 451, [("Content-Type", "text/parameters")], f"{error}\r\n"
        return 200, [], ""

    def _session_header(self, timeout: bool = False) -> tuple[str, str]:
        return "Session", f"{self._id};timeout={_TIMEOUT_S}" if timeout else self._id

    def _check_session(self, request: Request) -> None:
        if request.headers.get("session", "").partition(";")[0] != self._id:
            raise _Answer(454)

    def _stop_viewing(self) -> None:
        if self._camera and self._viewer:
            self._camera.detach(self._viewer)
        self._viewer = None

    def _leave(self) -> None:
        self._stop_viewing()
        if isinstance(self._outlet, UdpOutlet):
            self._outlet.release()
        self._outlet = self._camera = None


def description(camera: SimCamera, host: str) -> str:
    """The SDP of a camera (RFC 4566, RFC 6184)."""
    sets = camera.encoder.parameter_sets
    sprop = ",".join(base64.b64encode(nal).decode() for nal in sets)
    profile = sets[0][1:4].hex().upper()
    kind = "IP6" if ":" in host else "IP4"
    lines = (
        "v=0",
        f"o=- {camera.ssrc} 1 IN {kind} {host}",
        f"s={camera.name}",
        f"c=IN {kind} {'::' if kind == 'IP6' else '0.0.0.0'}",
        "t=0 0",
        "a=control:*",
        f"m=video 0 RTP/AVP {rtp.PAYLOAD_TYPE}",
        f"a=rtpmap:{rtp.PAYLOAD_TYPE} H264/{rtp.CLOCK_HZ}",
        f"a=fmtp:{rtp.PAYLOAD_TYPE} packetization-mode=1;profile-level-id={profile};"
        f"sprop-parameter-sets={sprop}",
        f"a=framerate:{camera.fps:g}",
        "a=control:trackID=0",
    )
    return "\r\n".join(lines) + "\r\n"
