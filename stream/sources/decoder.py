"""Where H.264 and its like are decoded: in software, or on a device that FFmpeg can use here."""

import functools
import logging

import av
import av.error
from av.codec.hwaccel import HWAccel, hwdevices_available

log = logging.getLogger(__name__)

_AUTO = ("cuda", "qsv", "vaapi")


def accelerator(wish: str) -> HWAccel | None:
    """For `av.open`: None decodes in software. `wish` is the setting `decoder`; falls back and says so once.

    FFmpeg opens a device only after it has connected, and then fails as if the camera did: so it is tried
    before.
    """
    if wish == "software":
        return None
    kind = _first_usable(wish)
    return None if kind is None else HWAccel(device_type=kind, allow_software_fallback=True)


@functools.cache
def _first_usable(wish: str) -> str | None:
    candidates = _AUTO if wish == "auto" else (wish,)
    for kind in candidates:
        if kind in hwdevices_available() and _opens(kind):
            log.info("pictures are decoded by %s", kind)
            return kind
    log.warning("decoder %s: no such device can be used here; pictures are decoded in software", wish)
    return None


def _opens(kind: str) -> bool:
    try:
        HWAccel(device_type=kind).create(av.Codec("h264", "r"))
    except (av.error.FFmpegError, OSError, NotImplementedError, RuntimeError, ValueError):
        return False
    return True
