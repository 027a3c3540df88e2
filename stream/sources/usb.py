"""Cameras on this machine (V4L2), through OpenCV."""

import threading
import time
from pathlib import Path

import cv2
import numpy as np

from config.sources import UsbSource as UsbSettings

from .base import Deadlines, Refused, Sink, Stalled, Unreachable, check_size


class UsbSource:
    """One opening of one device. OpenCV has no read time-out: only the supervisor ends a hanging read."""

    steady = True

    def __init__(self, camera: str, settings: UsbSettings) -> None:
        self.deadlines = Deadlines(settings.connect_timeout_s, settings.read_timeout_s)
        self._camera = camera
        self._settings = settings

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """See `base.Source`. Raises Unreachable (unplugged), Refused (no rights) or Stalled."""
        device = _path(self._settings.device)
        self._check(device)
        capture = cv2.VideoCapture(str(device), cv2.CAP_V4L2)
        try:
            if not capture.isOpened():
                raise Unreachable(f"{device} cannot be opened; another program may be using it")
            self._set_up(capture)
            check_size(
                int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
            )
            self._read(capture, device, sink, stop)
        finally:
            capture.release()

    def _check(self, device: Path) -> None:
        try:
            with device.open("rb"):
                pass
        except PermissionError:
            raise Refused(f"{device}: no right to read it; add the user to the group `video`") from None
        except FileNotFoundError:
            raise Unreachable(f"{device}: there is no such device; is the camera plugged in?") from None
        except OSError as error:
            raise Unreachable(f"{device} cannot be opened: {error.strerror}") from None

    def _set_up(self, capture: cv2.VideoCapture) -> None:
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest picture, not the oldest of four
        if self._settings.width_px:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._settings.width_px)
        if self._settings.height_px:
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._settings.height_px)

    def _read(self, capture: cv2.VideoCapture, device: Path, sink: Sink, stop: threading.Event) -> None:
        sink.connected(f"V4L2 {device}")
        while not stop.is_set():
            if not capture.grab():
                raise Stalled(f"{device}: no picture came; was the camera unplugged?")
            taken_at = time.time()
            if not sink.due(taken_at):
                continue
            done, pixels = capture.retrieve()
            if not done:
                sink.skipped("damaged")
                continue
            sink.put(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8), taken_at)


def _path(device: str) -> Path:
    return Path(f"/dev/video{device}" if device.isdigit() else device)


def build(camera: str, settings: UsbSettings) -> UsbSource:
    """The entry point `usb`."""
    return UsbSource(camera, settings)
