"""WebRTC cameras, by aiortc: we pull from a media server (WHEP, draft-ietf-wish-whep) or a camera or browser
pushes to us (WHIP, RFC 9725).

Each connection has an event loop of its own in the reader's thread, so its decoding delays nobody. No STUN
server is asked unless the settings name one.
"""

import asyncio
import contextlib
import http.client
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription
from aiortc.exceptions import OperationError
from aiortc.jitterbuffer import JitterFrame
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtp import RtpPacket
from av.video.frame import VideoFrame

from config.ice import IceServer
from config.redaction import redacted
from config.sources import WebrtcSource as WebrtcSettings

from ..ice import UNREADABLE, close, has_fingerprint, lost_relay, rtc_servers
from ..timestamps import PtsClock
from .base import Broken, Deadlines, Ended, Refused, Sink, SourceError, Unreachable
from .desk import DESK, Pushed
from .rtsp import rgb
from .smear import Smear

_LOOK_S = 0.2
_GOODBYE_S = 0.4  # well within the second that a reader has to end
_MAX_SDP_BYTES = 256 * 1024
_MAX_UNDECODED = 150  # five seconds at 30 fps: no hiccup of the machine, but more than it can do


@dataclass(frozen=True, slots=True)
class _Answered:
    sdp: str
    resource: str | None


class _Peer:
    """One peer connection that receives video. Used in the reader's own loop."""

    def __init__(self, ice_servers: tuple[IceServer, ...], ended: threading.Event | None = None) -> None:
        """`ended` is set when the other side says goodbye over HTTP."""
        self._ice_servers = ice_servers
        self._ended = ended or threading.Event()
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=rtc_servers(ice_servers)))
        self._clock = PtsClock()
        self._smear = Smear()
        self._key: JitterFrame | None = None
        self._undecoded: queue.Queue[object] = queue.Queue()  # aiortc's own, once there is a track
        self._track: asyncio.Future[MediaStreamTrack] = asyncio.get_running_loop().create_future()
        self.connection.on("track", self._on_track)

    def _on_track(self, track: MediaStreamTrack) -> None:
        if track.kind == "video" and not self._track.done():
            self._track.set_result(track)
            for transceiver in self.connection.getTransceivers():
                if transceiver.receiver.track is track:
                    self._hear_losses(transceiver.receiver)
                    name = "_RTCRtpReceiver__decoder_queue"
                    self._undecoded = getattr(transceiver.receiver, name, self._undecoded)

    def _hear_losses(self, receiver: RTCRtpReceiver) -> None:
        """aiortc hands on whole pictures only, and says of those that it leaves out to nobody but the sender:
        its jitter buffer's first answer is True then. Gaps in time are no sign: a browser makes them too.
        Of VP8 the decoder doesn't tell key pictures either; their first bytes do.
        """
        buffer = getattr(receiver, "_RTCRtpReceiver__jitter_buffer", None)
        if buffer is None:
            return  # another aiortc; tests/system/test_rtsp_webrtc.py notices
        add: Callable[[RtpPacket], tuple[bool, JitterFrame | None]] = buffer.add

        def added(packet: RtpPacket) -> tuple[bool, JitterFrame | None]:
            is_lost, picture = add(packet)
            if is_lost:
                self._smear.begin(time.monotonic())
                self._key = None
            if picture is not None and _is_vp8_key(picture.data):
                self._key = picture  # itself: its time is set to the decoder's only afterwards
            return is_lost, picture

        buffer.add = added

    async def offer(self) -> str:
        self.connection.addTransceiver("video", direction="recvonly")
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return str(self.connection.localDescription.sdp)

    async def take(self, sdp: str, kind: Literal["offer", "answer"]) -> None:
        """The other side's description. Raises Broken or Refused."""
        try:
            await self.connection.setRemoteDescription(RTCSessionDescription(sdp, kind))
        except OperationError as error:
            raise _no_codec(error) from None
        except UNREADABLE as error:
            name = type(error).__name__
            raise Broken(f"the other side's description cannot be read ({name})") from None
        if not self._track.done():
            raise Broken("the other side's description holds no video")
        if not has_fingerprint(sdp):
            raise Broken("the other side's description has no a=fingerprint, so no connection can come about")
        self._decline_others()

    def _decline_others(self) -> None:
        """Sound and further videos: aiortc would decode them into a queue that nobody reads, without end."""
        for transceiver in self.connection.getTransceivers():
            if transceiver.receiver.track is not self._track.result():
                transceiver.direction = "inactive"

    async def answer(self) -> str:
        """Raises Broken."""
        try:
            await self.connection.setLocalDescription(await self.connection.createAnswer())
        except UNREADABLE:  # lines without a=mid can't be told apart
            raise Broken("the other side's description cannot be answered; its lines need a=mid") from None
        return str(self.connection.localDescription.sdp)

    async def show(self, sink: Sink, stop: threading.Event, where: str, connect_s: float) -> None:
        """Pictures until `stop`. Raises Unreachable, Broken or Ended."""
        deadline = time.monotonic() + connect_s
        while not stop.is_set() and not self._is_through(where, deadline):
            sink.alive()
            await asyncio.sleep(0.02)
        if stop.is_set():
            return
        track = self._track.result()
        sink.connected(f"WebRTC video, {where}")
        while not stop.is_set():
            if self._ended.is_set():
                raise Ended(f"{where}: the other side said goodbye")
            if self._undecoded.qsize() > _MAX_UNDECODED:  # nothing bounds it, and the dates would be wrong
                raise Broken(
                    f"{where}: pictures come faster than they can be decoded here; send smaller ones"
                )
            frame = await self._next(track, where)
            if frame is not None:
                self._deliver(frame, sink)

    async def close(self) -> None:
        """Forgets what waits to be decoded: aiortc would decode it all first, and hold up the loop for it."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._undecoded.get_nowait()
        await close(self.connection)

    def _is_through(self, where: str, deadline: float) -> bool:
        state = self.connection.connectionState
        if state in ("failed", "closed") or time.monotonic() > deadline:
            sdp = str(self.connection.localDescription.sdp)
            advice = "a firewall may block UDP between them, or ice_servers needs a TURN server"
            raise Unreachable(
                f"{where}: both sides agreed, but no packet gets through (ICE {state}); "
                f"{lost_relay(self._ice_servers, sdp) or advice}"
            )
        return bool(state == "connected")

    async def _next(self, track: MediaStreamTrack, where: str) -> VideoFrame | None:
        """The next picture; None if none came within _LOOK_S."""
        try:
            async with asyncio.timeout(_LOOK_S):
                frame = await track.recv()
        except TimeoutError:
            if self.connection.connectionState in ("failed", "closed"):
                raise Ended(f"{where}: the connection was closed") from None
            return None
        except MediaStreamError:
            raise Ended(f"{where}: the other side ended the stream") from None
        return frame if isinstance(frame, VideoFrame) else None

    def _deliver(self, frame: VideoFrame, sink: Sink) -> None:
        now = time.monotonic()
        if frame.is_corrupt:
            self._smear.begin(now)
        is_key = frame.key_frame or (self._key is not None and frame.pts == self._key.timestamp)
        if self._smear.covers(now, is_key=is_key and not frame.is_corrupt):
            sink.alive()
            return sink.skipped("damaged")
        taken_at, clock = self._clock.taken_at(frame.time, time.time(), None, time.monotonic())
        if sink.due(taken_at):
            sink.put(rgb(frame), taken_at, clock)


class WhepSource:
    """We pull. See `base.Source`."""

    steady = True

    def __init__(self, camera: str, settings: WebrtcSettings) -> None:
        self.deadlines = Deadlines(settings.connect_timeout_s, settings.read_timeout_s)
        self._settings = settings
        self._url = str(settings.url)

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """See `base.Source`. Raises Refused, Unreachable, Broken or Ended."""
        _run_alone(self._run(sink, stop))

    async def _run(self, sink: Sink, stop: threading.Event) -> None:
        peer, answered = _Peer(self._settings.ice_servers), None
        try:
            offer = await peer.offer()
            answered = await asyncio.to_thread(self._exchange, offer)
            await peer.take(answered.sdp, "answer")
            await peer.show(sink, stop, self._where, self.deadlines.connect_s)
        finally:
            await peer.close()
            if answered is not None and answered.resource is not None:
                await asyncio.to_thread(self._goodbye, answered.resource)

    @property
    def _where(self) -> str:
        """The address without what could be a secret: neither user nor query, nor that form of a path."""
        parts = urlsplit(self._url)
        port = f":{parts.port}" if parts.port else ""
        return redacted(f"{parts.scheme}://{parts.hostname}{port}{parts.path}")

    def _request(self, url: str, method: str, body: str | None = None) -> urllib.request.Request:
        headers = {"content-type": "application/sdp", "accept": "application/sdp"}
        if self._settings.token is not None:
            headers["authorization"] = f"Bearer {self._settings.token.get_secret_value()}"
        return urllib.request.Request(url, body.encode() if body else None, headers, method=method)

    def _exchange(self, offer: str) -> _Answered:
        try:
            request = self._request(self._url, "POST", offer)
            with _OPENER.open(request, timeout=0.9 * self.deadlines.connect_s) as reply:
                location = reply.headers.get("location")
                sdp = reply.read(_MAX_SDP_BYTES).decode(errors="replace")
        except urllib.error.HTTPError as error:
            error.close()
            raise _http(error.code, self._where) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = error.reason if isinstance(error, urllib.error.URLError) else error
            word = getattr(why, "strerror", None) or type(why).__name__
            raise Unreachable(f"{self._where}: no answer ({word})") from None
        return _Answered(sdp, _resource(self._url, location))

    def _goodbye(self, resource: str) -> None:
        """The server may free the session at once; without it, it finds out by itself."""
        if urlsplit(resource)[:2] != urlsplit(self._url)[:2]:
            return  # our token goes nowhere else, and no less safely
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            _OPENER.open(self._request(resource, "DELETE"), timeout=_GOODBYE_S).close()


class WhipSource:
    """A camera or browser pushes to us. See `base.Source`; the page hands the push over through the desk."""

    steady = True

    def __init__(self, camera: str, settings: WebrtcSettings) -> None:
        self.deadlines = Deadlines(settings.connect_timeout_s, settings.read_timeout_s)
        self._camera = camera
        self._settings = settings

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """See `base.Source`. Raises Unreachable, Broken or Ended."""
        _run_alone(self._run(sink, stop))

    async def _run(self, sink: Sink, stop: threading.Event) -> None:
        token = self._settings.token.get_secret_value() if self._settings.token else None
        where = f"a push to /whip/{self._camera}"
        with DESK.waiting(self._camera, token) as push:
            sink.connected(f"waiting for {where}")
            while (pushed := await push.next(_LOOK_S)) is None:
                if stop.is_set():
                    return
                sink.alive()
            await self._receive(pushed, sink, stop, push.ended)

    async def _receive(
        self, pushed: Pushed, sink: Sink, stop: threading.Event, ended: threading.Event
    ) -> None:
        peer, where = _Peer(self._settings.ice_servers, ended), f"a push to /whip/{self._camera}"
        try:
            if await _done(_answer(peer, pushed), sink, stop, where, self.deadlines.connect_s):
                await peer.show(sink, stop, where, self.deadlines.connect_s)
        except SourceError as error:
            pushed.refuse(str(error))
            raise
        finally:
            pushed.refuse("the camera was stopped")  # if nothing was answered before
            await peer.close()


async def _answer(peer: _Peer, pushed: Pushed) -> None:
    await peer.take(pushed.offer, "offer")
    pushed.answer(await peer.answer())


async def _done(
    work: Coroutine[Any, Any, None], sink: Sink, stop: threading.Event, where: str, within_s: float
) -> bool:
    """Do `work`, which may wait for others, and say meanwhile that we are well; False if `stop` was set
    first. Raises what `work` does, or Unreachable after `within_s`.
    """
    task, deadline = asyncio.ensure_future(work), time.monotonic() + within_s
    try:
        while not task.done():
            if stop.is_set():
                return False
            if time.monotonic() > deadline:
                raise Unreachable(
                    f"{where}: no answer could be made within {within_s:g} s; check ice_servers"
                )
            sink.alive()
            await asyncio.wait([task], timeout=_LOOK_S)
        await task
    finally:
        task.cancel()
    return True


def _no_codec(error: OperationError) -> Refused:
    kind, ours = ("audio", "Opus, G.711") if "audio" in str(error) else ("video", "H.264, VP8")
    refused = Refused(f"the other side offers {kind} in no codec that can be decoded here ({ours})")
    refused.cap_s = 3.0  # a camera that pushes shall not find the door closed for long
    return refused


def _is_vp8_key(data: bytes) -> bool:
    """RFC 6386, 9.1: the first bit is 0, and a start code follows the frame tag."""
    return data[3:6] == b"\x9d\x01\x2a" and not data[0] & 1


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the token to another host: it is an answer like any other."""

    def redirect_request(self, *request: Any, **more: Any) -> None:
        return None


# Cameras and media servers are on the plant's own network: no proxy from the environment.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())


def _resource(url: str, location: str | None) -> str | None:
    """Where the session is ended; None where the server says nothing or no address: it ends by itself."""
    try:
        return urljoin(url, location) if location else None
    except ValueError:  # brackets that don't close
        return None


def _http(status: int, where: str) -> SourceError:
    if status in (401, 403):
        return Refused(f"{where} refuses this token ({status}); check token")
    if status == 404:
        error = Refused(f"{where} knows no such stream (404); check url")
        error.cap_s = 3.0
        return error
    if status >= 500:
        return Unreachable(f"{where} answered that it has a fault ({status})")
    return Refused(f"{where} refuses the request ({status})")


def _run_alone(work: Coroutine[Any, Any, None]) -> None:
    """Run in a loop of this thread's own."""
    with asyncio.Runner() as runner:
        runner.run(work)


def build(camera: str, settings: WebrtcSettings) -> WhepSource | WhipSource:
    """The entry point `webrtc`."""
    return WhepSource(camera, settings) if settings.mode == "whep" else WhipSource(camera, settings)
