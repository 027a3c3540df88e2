"""RTSP cameras, by PyAV: one connection, decoded in the calling thread.

What was tried and is built on here: options are strings; with default probing the first picture is a second
old; a killed server ends the demuxer without an exception; a stalled one hangs for ever without a time-out;
closing from another thread doesn't wake a blocked reader. A time-out in the middle of a message over TCP
loses what was read of it, and with that the stream: so there is none before the supervisor's deadline, and
`stop` is seen when the camera next sends something.
"""

import logging
import struct
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from config.sources import RtspSource as RtspSettings
from config.url import CameraUrl

from ..timestamps import PtsClock
from . import explain
from .base import Broken, Deadlines, Ended, Refused, Sink, Stalled, Unreachable, check_size
from .decoder import accelerator
from .smear import Smear

log = logging.getLogger(__name__)

# The supervisor's deadline comes first, and then a moment in which the reader should end.
_AFTER_DEADLINE_S = 0.5
_DAMAGED_LIMIT = 200
_FIRST_PICTURE_S = 20.0  # cameras with "smart" codecs send a key picture every ten seconds or so
_REMEMBERED_TIMES = 128


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach the camera; only `url.reveal()` inside `av.open` ever shows the password."""

    url: CameraUrl
    transport: str = "tcp"
    ca_file: Path | None = None
    decoder: str = "software"
    video: int = 0

    def options(self, deadlines: Deadlines) -> dict[str, str]:
        """FFmpeg's options, all strings: the first picture after 0.3 s, the same age at steady state as ever.

        Not `fflags=nobuffer`: it throws away what was read while probing, and with it the first key picture;
        then nothing is shown until the next one (measured: 1.1 s at a key picture a second).
        """
        options = {
            "rtsp_transport": self.transport,
            "allowed_media_types": "video",
            "flags": "low_delay",
            "analyzeduration": "200000",
            "probesize": "32768",
            "timeout": str(int(2e6 * deadlines.connect_s)),  # FFmpeg's own, in µs, is only a safety net
        }
        if self.url.url.startswith("rtsps:"):
            options |= {"tls_verify": "0"} if self.ca_file is None else self._checked()
        return options

    def _checked(self) -> dict[str, str]:
        host = urlsplit(self.url.url).hostname or ""
        return {"tls_verify": "1", "ca_file": str(self.ca_file), "verifyhost": host}


class RtspSource:
    """One connection to one camera. See `base.Source`."""

    steady = True

    def __init__(self, camera: str, connection: Connection, deadlines: Deadlines) -> None:
        self.deadlines = deadlines
        self._camera = camera
        self._connection = connection
        self._clock = PtsClock()
        self._camera_times: OrderedDict[int, float] = OrderedDict()
        self._damaged = 0
        self._smear = Smear()
        self._has_picture = False

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """See `base.Source`. Raises Refused, Unreachable, Stalled, Broken or Ended."""
        where = self._connection.url.url  # without credentials
        begun_at = time.monotonic()
        try:
            container = self._open()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            if time.monotonic() - begun_at >= self._patience_s():  # FFmpeg then says "invalid data"
                raise Unreachable(f"{where}: no answer in time") from None
            raise explain.opening(error, where) from None  # its text and its chain may hold the URL
        try:
            self._read(container, sink, stop)
        except (av.error.FFmpegError, OSError) as error:
            raise explain.reading(error, where) from None
        finally:
            container.close()

    def _open(self) -> av.container.InputContainer:
        return av.open(
            self._connection.url.reveal(),
            options=self._connection.options(self.deadlines),
            hwaccel=accelerator(self._connection.decoder),
            timeout=(self._patience_s(), self.deadlines.read_s + _AFTER_DEADLINE_S),
        )

    def _patience_s(self) -> float:
        """A little less than the supervisor's deadline, because here the reason has more words."""
        return 0.9 * self.deadlines.connect_s

    def _read(self, container: av.container.InputContainer, sink: Sink, stop: threading.Event) -> None:
        where = self._connection.url.url
        videos = container.streams.video
        if not videos:
            raise Broken(f"{where} sends no video")
        if self._connection.video >= len(videos):
            raise Refused(f"{where} has videos 0 to {len(videos) - 1}, but not {self._connection.video}")
        stream = videos[self._connection.video]
        # Slices only: frame threads would add a frame of delay each. One thread a camera: 720p takes 0.4 ms.
        stream.thread_type = "SLICE"
        stream.codec_context.thread_count = 1
        check_size(stream.codec_context.width, stream.codec_context.height)
        sink.connected(_what(stream, self._connection.transport))
        opened_at = time.monotonic()
        for packet in container.demux(stream):
            if stop.is_set():
                return
            if packet.dts is None and packet.size == 0:
                break  # the flushing packet of the demuxer's end
            self._decode(packet, sink)
            if not self._has_picture:
                self._wait_for_key_picture(sink, time.monotonic() - opened_at)
        if not stop.is_set():
            raise Ended(f"{where}: the camera closed the stream")

    def _decode(self, packet: "av.Packet[av.VideoStream]", sink: Sink) -> None:
        self._remember_time(packet)
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            return self._count_damaged(sink)
        for frame in frames:
            self._deliver(frame, sink)

    def _deliver(self, frame: av.VideoFrame, sink: Sink) -> None:
        self._has_picture = True
        if frame.is_corrupt:
            return self._count_damaged(sink)
        self._damaged = 0
        if self._smear.covers(time.monotonic(), is_key=frame.key_frame):
            sink.alive()
            return sink.skipped("damaged")
        taken_at, clock = self._taken_at(frame, time.time())
        if self._clock.offset_s is not None:
            sink.clock(self._clock.offset_s)
        if sink.due(taken_at):
            sink.put(rgb(frame), taken_at, clock)

    def _wait_for_key_picture(self, sink: Sink, waited_s: float) -> None:
        """Data without a picture is a sign of life at first, because pictures begin with a key picture."""
        if waited_s > _FIRST_PICTURE_S:
            raise Stalled(f"{self._connection.url.url} sends data, but no picture for {_FIRST_PICTURE_S:g} s")
        sink.alive()

    def _count_damaged(self, sink: Sink) -> None:
        sink.alive()
        sink.skipped("damaged")
        self._smear.begin(time.monotonic())
        self._damaged += 1
        if self._damaged >= _DAMAGED_LIMIT:
            raise Broken(f"{self._connection.url.url} sends data that cannot be decoded")

    def _remember_time(self, packet: "av.Packet[av.VideoStream]") -> None:
        """FFmpeg works out the camera's time of a packet from the RTCP sender reports; decoders drop it."""
        if packet.pts is None or not packet.has_sidedata("prft"):
            return
        self._camera_times[packet.pts] = _wallclock(bytes(packet.get_sidedata("prft")))
        if len(self._camera_times) > _REMEMBERED_TIMES:
            self._camera_times.popitem(last=False)

    def _taken_at(self, frame: av.VideoFrame, now: float) -> tuple[float, str]:
        by_camera = self._camera_times.pop(frame.pts, None) if frame.pts is not None else None
        return self._clock.taken_at(frame.time, now, by_camera, time.monotonic())


def build(camera: str, settings: RtspSettings) -> RtspSource:
    """The entry point `rtsp`."""
    deadlines = Deadlines(settings.connect_timeout_s, settings.read_timeout_s)
    connection = Connection(
        settings.camera_url(), settings.transport, settings.tls_ca_file, settings.decoder, settings.video
    )
    return RtspSource(camera, connection, deadlines)


def rgb(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """(H, W, 3) uint8, the costly conversion. Raises Refused."""
    check_size(frame.width, frame.height)
    return np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)


def _wallclock(prft: bytes) -> float:
    """AVProducerReferenceTime {int64 wallclock in µs since 1970; int flags} → UTC seconds."""
    (micros,) = struct.unpack_from("=q", prft)
    return float(micros) / 1e6


def _what(stream: av.VideoStream, transport: str) -> str:
    context = stream.codec_context
    size = f" {context.width}×{context.height}" if context.width else ""
    return f"{context.name.upper()}{size} over {transport.upper()}"
