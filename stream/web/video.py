"""Pictures as VP8 for WebRTC: one encoder a channel, its packets are shared by everybody who watches.

VP8 by libvpx: free to hand on, and every browser plays it. A packet can't be left out without a key picture
after it, so viewers of video have a short line in place of a single place.
"""

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
from av.video.frame import PictureType
from numpy.typing import NDArray

from .viewers import Viewer

if TYPE_CHECKING:
    from .scene import Picture

CLOCK_HZ = 90_000
_TIME_BASE = Fraction(1, CLOCK_HZ)
# A viewer whose key-picture wish got lost waits no longer than this.
_KEY_EVERY_S = 1.0
# Many who join at once share one: a wish that comes sooner is wished again.
_KEY_GAP_S = 0.25
_BITS_PER_PIXEL = 0.15
_REFERENCE_FPS = 15
_OPTIONS = {
    "deadline": "realtime",
    "cpu-used": "8",
    "lag-in-frames": "0",
    "error-resilient": "default",
    "static-thresh": "1",
    "partitions": "0",
}


@dataclass(frozen=True, slots=True)
class Coded:
    """One VP8 picture; `pts` counts CLOCK_HZ, `key` needs none before it."""

    data: bytes
    pts: int
    key: bool


class Vp8:
    """One camera's encoder. Not thread-safe: the hub runs one job of a channel at a time."""

    def __init__(self) -> None:
        self._codec: av.VideoCodecContext | None = None
        self._key_at = float("-inf")
        self._pts = -1

    def encode(self, pixels: NDArray[np.uint8], now: float, key: bool) -> Coded:
        """(H, W, 3) uint8 RGB at `now` (any steady clock, s) → one packet; another size starts anew with a
        key.
        """
        height, width = (side // 2 * 2 for side in pixels.shape[:2])
        if self._codec is None or (self._codec.width, self._codec.height) != (width, height):
            self._codec = _open(width, height)
            self._key_at = float("-inf")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:height, :width]), format="rgb24")
        frame = frame.reformat(format="yuv420p")
        self._pts = max(self._pts + 1, round(now * CLOCK_HZ))
        frame.pts, frame.time_base = self._pts, _TIME_BASE
        since_s = now - self._key_at
        if since_s >= (_KEY_GAP_S if key else _KEY_EVERY_S):
            frame.pict_type = PictureType.I
            self._key_at = now
        packets = self._codec.encode(frame)
        if len(packets) != 1:
            raise ValueError(f"libvpx made {len(packets)} packets of one picture")
        return Coded(bytes(packets[0]), self._pts, packets[0].is_keyframe)


def _open(width: int, height: int) -> av.VideoCodecContext:
    codec = av.CodecContext.create("libvpx", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
    codec.time_base = _TIME_BASE
    codec.bit_rate = int(width * height * _BITS_PER_PIXEL * _REFERENCE_FPS)
    codec.qmin, codec.qmax = 4, 48
    codec.thread_count = 1
    codec.options = _OPTIONS
    return codec


class VideoViewer(Viewer["Picture"]):
    """A viewer's line of packets, at most 15; when it is full it is emptied, and goes on with a key
    picture.
    """

    LINE = 15

    def __init__(self, leave: Callable[[Viewer["Picture"]], None], wish_key: Callable[[], None]) -> None:
        super().__init__(leave)
        self._line: deque[Picture] = deque()
        self._wish_key = wish_key
        self._needs_key = True

    def put(self, place: Hashable, item: "Picture") -> None:
        """Never waits. What can't be decoded without what was dropped is dropped too, and counted."""
        if len(self._line) >= self.LINE:
            self.dropped += len(self._line)
            self._line.clear()
            self._needs_key = True
        if self._needs_key and not (item.video and item.video.key):
            self.dropped += 1
            self._wish_key()
            return
        self._needs_key = False
        self._line.append(item)
        self._something.set()

    def _has(self) -> bool:
        return bool(self._line)

    def _take(self) -> "Picture":
        return self._line.popleft()
