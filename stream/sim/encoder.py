"""Pictures → H.264 by libx264, one picture in, one picture out."""

from fractions import Fraction

import av
import cv2
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from numpy.typing import NDArray

from .rtp import CLOCK_HZ, is_key, parameter_sets, split_nals


class Encoder:
    """`size` is (width, height), both even; a key picture at least once a second. One thread at a time."""

    def __init__(self, size: tuple[int, int], fps: float, max_kbit_s: int = 4000) -> None:
        self.size = size
        context = av.CodecContext.create("libx264", "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height = size
        context.pix_fmt = "yuv420p"
        context.time_base = Fraction(1, CLOCK_HZ)
        context.framerate = Fraction(fps).limit_denominator(1000)
        context.gop_size = max(1, int(fps))
        context.thread_count = 1
        # Parameter sets once, outside the stream: the description needs them before the first picture.
        context.flags |= 1 << 22
        context.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "profile": "baseline",
            "crf": "20",
            "maxrate": f"{max_kbit_s}k",
            "bufsize": f"{max_kbit_s}k",
            "forced-idr": "1",
        }
        context.open()
        self._context = context
        self.parameter_sets = parameter_sets(split_nals(bytes(context.extradata or b"")))

    def encode(self, pixels: NDArray[np.uint8], pts: int, key: bool) -> list[bytes]:
        """The NAL units of one picture, parameter sets first when it is a key one; `pts` in 90 kHz ticks,
        rising.

        `pixels` is (h, w, 3) uint8 RGB.
        """
        planes = cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV_I420)
        frame = av.VideoFrame.from_ndarray(np.asarray(planes, np.uint8), format="yuv420p")
        frame.pts, frame.time_base = pts, Fraction(1, CLOCK_HZ)
        frame.pict_type = PictureType.I if key else PictureType.NONE
        nals = [nal for p in self._context.encode(frame) for nal in split_nals(bytes(p))]
        return [*self.parameter_sets, *nals] if is_key(nals) else nals
