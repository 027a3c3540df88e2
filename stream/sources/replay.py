"""Video files as a camera, by PyAV: at their own speed or as fast as they can be read, once or looped."""

import threading
import time
from pathlib import Path

import av
import av.error

from config.sources import FileSource as FileSettings

from . import explain
from .base import Broken, Deadlines, Ended, Refused, Sink, check_size
from .pace import wait_until
from .rtsp import rgb

_NO_TIME_STEP_S = 0.04  # for pictures without a presentation time
_BEGINS_AGAIN_S = 1.0  # times that go back so far are those of another recording, joined to the first


class FileSource:
    """One run through a video, or endless ones. At `full` pace times go by the video's clock."""

    steady = True

    def __init__(self, camera: str, path: Path, *, pace: str = "own", loop: bool = False) -> None:
        self.deadlines = Deadlines(connect_s=10.0, read_s=10.0)
        self._camera = camera
        self._path = path
        self._own_pace = pace == "own"
        self._loop = loop
        self._start_at = 0.0
        self._start_tick = 0.0
        self._last_s = 0.0

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """See `base.Source`. Raises Refused (no such file, no right), Unreachable, Broken, or Ended with
        `final`.
        """
        self._check()
        self._start_at, self._start_tick = time.time(), time.monotonic()
        while not stop.is_set():
            if not self._once(sink, stop):
                raise Broken(f"{self._path} holds no picture that can be decoded")
            if not self._loop and not stop.is_set():
                raise Ended(f"{self._path}: the recording is over", final=True)
            self._start_at += self._last_s + _NO_TIME_STEP_S
            self._start_tick += self._last_s + _NO_TIME_STEP_S

    def _check(self) -> None:
        try:
            is_there = self._path.is_file()
        except OSError as error:
            raise explain.local(error, self._path) from None
        if not is_there:
            raise Refused(f"{self._path}: there is no such file")

    def _once(self, sink: Sink, stop: threading.Event) -> int:
        """Play it to its end; the number of pictures."""
        try:
            with av.open(str(self._path)) as container:
                return self._play(container, sink, stop)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise explain.opening(error, str(self._path)) from None

    def _play(self, container: av.container.InputContainer, sink: Sink, stop: threading.Event) -> int:
        if not container.streams.video:
            raise Broken(f"{self._path} holds no video")
        stream = container.streams.video[0]
        check_size(stream.codec_context.width, stream.codec_context.height)
        sink.connected(f"{stream.codec_context.name.upper()} from {self._path.name}")
        first_s: float | None = None
        shown = self._last_s = 0
        for packet in container.demux(stream):
            for frame in self._decode(packet, sink):
                if frame.pts is None:
                    self._last_s += _NO_TIME_STEP_S if shown else 0.0
                else:
                    if first_s is None:
                        first_s = frame.time
                    elif frame.time - first_s < self._last_s - _BEGINS_AGAIN_S:
                        first_s = frame.time - self._last_s - _NO_TIME_STEP_S
                    self._last_s = max(self._last_s, frame.time - first_s)
                self._show(frame, sink, stop)
                shown += 1
                if stop.is_set():
                    return shown
        return shown

    def _decode(self, packet: "av.Packet[av.VideoStream]", sink: Sink) -> list[av.VideoFrame]:
        try:
            return packet.decode()
        except av.error.InvalidDataError:
            sink.skipped("damaged")
            return []

    def _show(self, frame: av.VideoFrame, sink: Sink, stop: threading.Event) -> None:
        if self._own_pace and not wait_until(self._start_tick + self._last_s, sink, stop):
            return
        taken_at = self._start_at + self._last_s
        if sink.due(taken_at):
            sink.put(rgb(frame), taken_at)


def build(camera: str, settings: FileSettings) -> FileSource:
    """The entry point `file`."""
    return FileSource(camera, settings.path, pace=settings.pace, loop=settings.loop)
