"""What a viewer is shown, and how it is drawn and encoded. Pure but for the video encoder's memory."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.core import Frame, Inspection

from .. import overlay
from .video import Coded, Vp8


@dataclass(frozen=True, slots=True)
class Look:
    """How a picture is drawn: with or without the overlay, how wide at most (None = as it came), JPEG or
    video.
    """

    overlay: bool = True
    max_width_px: int | None = 960
    video: bool = False


LIVE = Look()
PLAIN = Look(overlay=False)
FULL = Look(max_width_px=None)
FULL_PLAIN = Look(overlay=False, max_width_px=None)
VIDEO = Look(max_width_px=1280, video=True)
VIDEO_PLAIN = Look(overlay=False, max_width_px=1280, video=True)

Scene = Inspection | Frame | overlay.Absence


@dataclass(frozen=True, slots=True)
class Picture:
    """One encoded picture; `taken_at` is UTC seconds of what it shows, `live` is False for an absence.

    `jpeg` is empty where the look is video; then `video` is VP8.
    """

    camera: str
    taken_at: float
    live: bool
    jpeg: bytes = b""
    video: Coded | None = None


class Renderer:
    """Draws and encodes one channel; `render` runs in a thread, one call at a time."""

    def __init__(self, camera: str, look: Look, quality: int) -> None:
        self._camera = camera
        self._look = look
        self._quality = quality
        self._video = Vp8() if look.video else None

    def render(self, scene: Scene, utc: float, tick: float, key: bool) -> Picture:
        """`utc` and `tick` are now, by the wall and by the steady clock; `key`: somebody joined the video."""
        pixels, taken_at = draw(scene, self._look, utc)
        live = not isinstance(scene, overlay.Absence)
        if self._video is None:
            return Picture(self._camera, taken_at, live, jpeg=overlay.encode_jpeg(pixels, self._quality))
        return Picture(self._camera, taken_at, live, video=self._video.encode(pixels, tick, key))


def draw(scene: Scene, look: Look, utc: float) -> tuple[NDArray[np.uint8], float]:
    """Scene → (H, W, 3) uint8 RGB and the UTC seconds of what it shows."""
    match scene:
        case Inspection() if look.overlay:
            return overlay.draw(scene, look.max_width_px), scene.frame.taken_at
        case Inspection():
            return overlay.plain(scene.frame.pixels, look.max_width_px), scene.frame.taken_at
        case Frame():
            return overlay.plain(scene.pixels, look.max_width_px), scene.taken_at
        case overlay.Absence():
            return overlay.absent(scene, utc), utc
