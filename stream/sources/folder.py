"""A folder of pictures as a camera: those that are there, and each one that a machine drops into it."""

import os
import threading
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from config.sources import FolderSource as FolderSettings

from .base import Broken, Deadlines, Ended, Refused, Sink

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})

_LOOK_S = 0.2
_LOOK_SHARE = 10.0  # looking through a folder of 100,000 files takes a while: a tenth of the time at most
_SETTLED_S = 0.3  # a file that was not written to for so long is complete
_MAX_BYTES = 512 * 1024 * 1024


class FolderSource:
    """Pictures in order of name. See `base.Source`. Unreadable ones are skipped and counted."""

    def __init__(self, camera: str, settings: FolderSettings) -> None:
        self.deadlines = Deadlines(connect_s=30.0, read_s=30.0)  # a large picture on a slow share
        self.steady = False  # pictures come when they come
        self._camera = camera
        self._settings = settings
        self._seen: set[tuple[str, int, int]] = set()
        self._shown = 0
        self._looked_s = 0.0

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """See `base.Source`. Raises Refused (no folder), Broken (nothing readable), or Ended with `final`."""
        folder = self._settings.path
        if not folder.is_dir():
            raise Refused(f"{folder}: there is no such folder")
        # First: what comes after we said that we watch is new.
        if not self._settings.existing:
            self._seen.update(_identity(path) for path in pictures(folder))
        sink.connected(f"pictures from {folder.name or folder}")
        self._show_all(sink, stop)
        while not stop.is_set():
            self._again_or_over()
            stop.wait(max(_LOOK_S, _LOOK_SHARE * self._looked_s))
            sink.alive()
            self._show_all(sink, stop)

    def _again_or_over(self) -> None:
        """After all pictures were shown: begin again, or go on and wait, or end."""
        folder = self._settings.path
        if self._settings.loop:
            if not self._shown:
                raise Broken(f"{folder} holds no readable picture")
            self._seen.clear()
        elif not self._settings.watch:
            raise Ended(f"{folder}: all {self._shown} pictures were shown", final=True)

    def _show_all(self, sink: Sink, stop: threading.Event) -> None:
        watching = self._settings.watch and not self._settings.loop
        begun = time.monotonic()
        there = [(path, _identity(path)) for path in pictures(self._settings.path)]
        self._looked_s = time.monotonic() - begun
        self._seen &= {identity for _, identity in there}  # what was deleted is forgotten: no growth for ever
        for path, identity in there:
            if identity in self._seen or (watching and _is_being_written(identity)):
                continue
            self._seen.add(identity)
            self._show(path, sink)
            if stop.wait(self._settings.interval_s):
                return

    def _show(self, path: Path, sink: Sink) -> None:
        taken_at = time.time()
        sink.alive()
        if not sink.due(taken_at):
            return
        pixels = read(path)
        if pixels is None:
            sink.skipped("unreadable")
            return
        self._shown += 1
        sink.put(pixels, taken_at)


def pictures(folder: Path) -> list[Path]:
    """All picture files in `folder` and below, sorted by path; without hidden ones."""
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        suffixed = (name for name in names if Path(name).suffix.lower() in SUFFIXES)
        found += [Path(root) / name for name in suffixed if not name.startswith(".")]
    return sorted(found)


def read(path: Path) -> NDArray[np.uint8] | None:
    """(H, W, 3) uint8 RGB, deeper or grey ones converted; None if it is no picture that can be read."""
    try:
        return decode(path.read_bytes()) if path.stat().st_size <= _MAX_BYTES else None
    except OSError:
        return None


def decode(encoded: bytes) -> NDArray[np.uint8] | None:
    """The same for the bytes of a picture, PNG, JPEG or what else OpenCV reads."""
    try:
        decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR) if encoded else None
    except cv2.error:
        return None
    return None if decoded is None else np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _identity(path: Path) -> tuple[str, int, int]:
    """A file that is written anew is a new picture."""
    try:
        stat = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), stat.st_mtime_ns, stat.st_size


def _is_being_written(identity: tuple[str, int, int]) -> bool:
    _, mtime_ns, size = identity
    return not size or abs(time.time() - mtime_ns / 1e9) < _SETTLED_S


def build(camera: str, settings: FolderSettings) -> FolderSource:
    """The entry point `folder`."""
    return FolderSource(camera, settings)
