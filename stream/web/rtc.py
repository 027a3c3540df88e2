"""WHEP: a browser asks for a camera's video with one POST and gets WebRTC (RFC 9725's sibling for
watching).

Encoded once per camera (hub, video.py); aiortc sends each viewer the same packets. No public server is ever
asked: ICE servers come from the settings, none by default. Names of aiortc's and aioice's insides appear in
`_Ports` and `_on_picture_loss` only.
"""

import asyncio
import contextlib
import logging
import re
import secrets
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any

import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.exceptions import OperationError
from aiortc.mediastreams import MediaStreamError

from config.ice import IceServer

from ..ice import UNREADABLE, close, has_fingerprint, lost_relay, rtc_servers
from .errors import Refused
from .hub import Hub
from .scene import VIDEO, VIDEO_PLAIN, Look, Picture
from .video import CLOCK_HZ
from .viewers import Viewer

log = logging.getLogger(__name__)

_CONNECT_WITHIN_S = 15.0
_CLOSE_WITHIN_S = 1.0
_LOOK_EVERY_S = 10.0
_OVER = ("failed", "closed")
_NOT_SDP = "The offer is not SDP that can be read."


@dataclass(frozen=True, slots=True)
class RtcOptions:
    """`advertise`: address put into answers in place of this machine's own; `udp_ports`: first and last, or
    any.
    """

    ice_servers: tuple[IceServer, ...] = ()
    advertise: str | None = None
    udp_ports: tuple[int, int] | None = None


@dataclass(eq=False, slots=True)
class _Session:
    peer: RTCPeerConnection
    viewer: Viewer[Picture]
    ending: asyncio.Task[None] | None = None
    timeout: asyncio.TimerHandle | None = field(default=None)
    look: asyncio.TimerHandle | None = field(default=None)


class Whep:
    """The open WebRTC sessions; each holds a viewer's seat of the hub. One event loop."""

    def __init__(self, hub: Hub, options: RtcOptions) -> None:
        self._hub = hub
        self._options = options
        self._ports = _Ports(options.udp_ports)
        self._sessions: dict[str, _Session] = {}
        self._told: str | None = None

    async def open(
        self, camera: str, offer: str, overlay: bool, is_allowed: Callable[[], bool] = lambda: True
    ) -> tuple[str, str]:
        """SDP offer → (session id, SDP answer). Raises Refused (nothing we can send) and Full.

        The session ends when `is_allowed` says no, which is asked every some seconds.
        """
        look = VIDEO if overlay else VIDEO_PLAIN
        servers = rtc_servers(self._options.ice_servers)
        viewer = self._hub.watch([camera], look)
        session = _Session(RTCPeerConnection(RTCConfiguration(iceServers=servers)), viewer)
        key = secrets.token_urlsafe(12)
        self._sessions[key] = session
        session.peer.on("connectionstatechange", partial(self._changed, key))
        session.timeout = asyncio.get_running_loop().call_later(_CONNECT_WITHIN_S, self._too_late, key)
        self._look(key, is_allowed)
        try:
            answer = await self._answer(session, camera, look, offer)
        except BaseException:
            await self.end(key)
            raise
        return key, advertised(answer, self._options.advertise)

    async def end(self, key: str) -> bool:
        """Closes one session; False if there is none of this id."""
        session = self._sessions.get(key)
        if session is None:
            return False
        if session.ending is None:
            session.ending = asyncio.create_task(self._close(key, session), name="whep-end")
        await asyncio.shield(session.ending)
        return True

    async def stop(self) -> None:
        """Closes all sessions. One that fails is told; it keeps neither the others nor the page from that."""
        ends = (self.end(key) for key in list(self._sessions))
        for error in await asyncio.gather(*ends, return_exceptions=True):
            if isinstance(error, BaseException):
                log.error("live video: a viewer's connection did not close", exc_info=error)

    async def _answer(self, session: _Session, camera: str, look: Look, offer: str) -> str:
        peer = session.peer
        try:
            await peer.setRemoteDescription(RTCSessionDescription(without_names(offer), "offer"))
        except UNREADABLE as error:
            raise Refused(_NOT_SDP) from error
        except OperationError as error:  # also of a line beside the video: nothing is sent without it
            raise Refused("The offer has a line without a codec that is known here.") from error
        wanted = [t for t in peer.getTransceivers() if t.kind == "video"]
        vp8 = [c for c in RTCRtpSender.getCapabilities("video").codecs if c.mimeType == "video/VP8"]
        if len(wanted) != 1 or not _offers_vp8(offer):
            raise Refused("The offer must have one video line with VP8.")
        if not has_fingerprint(offer):
            raise Refused("The offer has no a=fingerprint, so no connection can come about.")
        wanted[0].setCodecPreferences(vp8)
        sender = peer.addTrack(_Track(session.viewer))
        _on_picture_loss(sender, partial(self._hub.key_wanted, camera, look))
        with self._ports.used():
            try:
                await peer.setLocalDescription(await peer.createAnswer())
            except UNREADABLE as error:  # lines can't be told apart, or are of no kind that is known here
                raise Refused(_NOT_SDP) from error
        sdp = str(peer.localDescription.sdp)
        lost = lost_relay(self._options.ice_servers, sdp)
        if lost is not None and lost != self._told:
            log.warning("live video: %s", lost)
        self._told = lost
        return sdp

    def _changed(self, key: str) -> None:
        session = self._sessions.get(key)
        if session is None:
            return
        if session.peer.connectionState == "connected" and session.timeout is not None:
            session.timeout.cancel()
        elif session.peer.connectionState in _OVER:
            self._too_late(key)

    def _look(self, key: str, is_allowed: Callable[[], bool]) -> None:
        if (session := self._sessions.get(key)) is None:
            return
        if not is_allowed():
            return self._too_late(key)
        later = asyncio.get_running_loop().call_later
        session.look = later(_LOOK_EVERY_S, self._look, key, is_allowed)

    def _too_late(self, key: str) -> None:
        session = self._sessions.get(key)
        if session is not None and session.ending is None:
            session.ending = asyncio.get_running_loop().create_task(
                self._close(key, session), name="whep-end"
            )

    async def _close(self, key: str, session: _Session) -> None:
        for timer in (session.timeout, session.look):
            if timer is not None:
                timer.cancel()
        try:
            with session.viewer:
                session.viewer.close()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(_closed(session.peer), _CLOSE_WITHIN_S)
        finally:
            self._sessions.pop(key, None)


async def _closed(peer: RTCPeerConnection) -> None:
    await close(peer)
    # A connection that came about just while it was closed starts its senders after `close` had stopped them.
    for transceiver in peer.getTransceivers():
        await transceiver.sender.stop()


class _Track(MediaStreamTrack):
    """What a viewer's places bring, as packets that aiortc sends without encoding."""

    kind = "video"

    def __init__(self, viewer: Viewer[Picture]) -> None:
        super().__init__()
        self._viewer = viewer

    async def recv(self) -> Any:
        """The next packet; MediaStreamError when there are no more."""
        picture = await self._viewer.next()
        if picture is None or picture.video is None:
            self.stop()
            raise MediaStreamError
        packet = av.Packet(picture.video.data)
        packet.pts = picture.video.pts
        packet.time_base = Fraction(1, CLOCK_HZ)
        return packet


def _offers_vp8(offer: str) -> bool:
    return re.search(r"^a=rtpmap:\d+ VP8/90000", offer, re.MULTILINE | re.IGNORECASE) is not None


def without_names(sdp: str) -> str:
    """Takes out candidates that are names (`….local`): looking them up asks the network, and the peer's own
    checks tell its address anyway.
    """
    rows = re.split(r"\r?\n", sdp)
    return "\r\n".join(r for r in rows if not re.match(r"a=candidate:.*\S+\.local ", r))


def advertised(sdp: str, address: str | None) -> str:
    """Puts `address` into the host candidates and connection lines of an answer; None leaves it as it is."""
    if address is None:
        return sdp
    kind = "IP6" if ":" in address else "IP4"
    sdp = re.sub(
        r"^(a=candidate:\S+ \d \S+ \d+) \S+ (\d+ typ host)", rf"\1 {address} \2", sdp, flags=re.MULTILINE
    )
    return re.sub(r"^c=IN IP[46] \S+", f"c=IN {kind} {address}", sdp, flags=re.MULTILINE)


def _on_picture_loss(sender: RTCRtpSender, wish_key: Any) -> None:
    """aiortc keeps a viewer's wish for a key picture to its own encoder, which packets pass by: hear it
    ourselves.

    Without this a viewer that lost a packet waits for the next key picture, a second at most.
    """
    if hasattr(sender, "_send_keyframe"):
        sender._send_keyframe = wish_key  # type: ignore[method-assign]


class _Ports:
    """Binds the UDP sockets of WebRTC within a range of ports, which neither aiortc nor aioice can be told.

    aioice asks the running loop for a socket on port 0; while `used()` is in force (in this task and those
    that it starts), such a request gets the next free port of the range.
    """

    _wanted: ContextVar[tuple[int, int] | None] = ContextVar("udp_ports", default=None)

    def __init__(self, ports: tuple[int, int] | None) -> None:
        self._ports = ports

    @contextlib.contextmanager
    def used(self) -> Any:
        """Sockets that are opened within come from the range."""
        if self._ports is not None:
            _listen_to_ports(asyncio.get_running_loop())
        token = self._wanted.set(self._ports)
        try:
            yield
        finally:
            self._wanted.reset(token)


def _listen_to_ports(loop: asyncio.AbstractEventLoop) -> None:
    if getattr(loop.create_datagram_endpoint, "_linewatch", False):
        return
    plain = loop.create_datagram_endpoint

    async def within_range(factory: Any, local_addr: Any = None, **more: Any) -> Any:
        ports = _Ports._wanted.get()
        if ports is None or local_addr is None or local_addr[1] != 0:
            return await plain(factory, local_addr=local_addr, **more)
        first, last = ports
        start = secrets.randbelow(last - first + 1)
        for i in range(last - first + 1):
            port = first + (start + i) % (last - first + 1)
            with contextlib.suppress(OSError):
                return await plain(factory, local_addr=(local_addr[0], port), **more)
        raise OSError(f"no UDP port of {first}-{last} is free on {local_addr[0]}")

    within_range._linewatch = True  # type: ignore[attr-defined]
    loop.create_datagram_endpoint = within_range  # type: ignore[method-assign, assignment]
