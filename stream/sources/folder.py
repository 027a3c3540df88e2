"""A folder of pictures as a camera: those that are there, and each one that a machine drops into it."""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from stat import S_ISREG

import cv2
import numpy as np
from numpy.typing import NDArray

from config.sources import FolderSource as FolderSettings
from engine.core import SUFFIXES

from . import explain
from .base import Broken, Deadlines, Ended, Refused, Sink, Source, Unreachable
from .pace import wait_until

log = logging.getLogger(__name__)

_LOOK_S = 0.2
_LOOK_SHARE = 10.0  # looking through a folder of 100,000 files takes a while: a tenth of the time at most
_SAID_EVERY_S = 10.0  # a folder full of unreadable files is no flood in the log
_SETTLED_S = 0.3  # a file that was not written to for so long is complete
_MAX_BYTES = 512 * 1024 * 1024


Stamp = tuple[int, int]
"""When a file was written (ns since 1970), and its size in bytes: written anew it is another picture."""


@dataclass
class _Past:
    """What one attempt leaves to the next: a share that comes back shall not be inspected again.

    `shown` by path; `trying` is the file that was being read, where an attempt may have ended. `unsaid`:
    files skipped since one was named, which was at `said_at` (monotonic s).
    """

    shown: dict[str, Stamp] = field(default_factory=dict)
    count: int = 0
    trying: str | None = None
    was_there: bool = False
    unsaid: int = 0
    said_at: float = float("-inf")


class FolderSource:
    """Pictures in order of name, each as soon as it is due. See `base.Source` and `base.Resuming`. Unreadable
    ones are skipped, counted and said.
    """

    def __init__(self, camera: str, settings: FolderSettings) -> None:
        self.deadlines = Deadlines(connect_s=30.0, read_s=30.0)  # a large picture on a slow share
        self.steady = False  # pictures come when they come
        self._camera = camera
        self._settings = settings
        self._past = _Past()
        self._looked_s = 0.0

    def resume(self, before: Source) -> None:
        """See `base.Resuming`. A copy: the one before may still be at work inside a hanging call."""
        if isinstance(before, FolderSource) and before._settings.path == self._settings.path:
            self._past = replace(before._past, shown=before._past.shown.copy())

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """See `base.Source`. Raises Refused (no folder, no right), Unreachable (it went away, or can't be
        read), Broken (nothing readable), or Ended with `final`.
        """
        folder = self._settings.path
        self._check()
        # First: what comes after we said that we watch is new.
        if not (self._settings.existing or self._past.was_there):
            self._past.shown = {path: stamp for path, stamp in self._look(sink).items() if stamp}
        self._past.was_there = True
        sink.connected(f"pictures from {folder.name or folder}")
        self._show_all(sink, stop)
        while not stop.is_set():
            self._again_or_over()
            wait_until(time.monotonic() + max(_LOOK_S, _LOOK_SHARE * self._looked_s), sink, stop)
            self._show_all(sink, stop)

    def _check(self) -> None:
        folder = self._settings.path
        try:
            is_there = folder.is_dir()
        except OSError as error:
            raise explain.local(error, folder) from None
        if not is_there and self._past.was_there:
            raise Unreachable(f"{folder} is gone; is the share still mounted?")
        if not is_there:
            raise Refused(f"{folder}: there is no such folder")

    def _again_or_over(self) -> None:
        """After all pictures were shown: begin again, or go on and wait, or end."""
        folder = self._settings.path
        if self._settings.loop:
            if not self._past.count:
                raise Broken(f"{folder} holds no readable picture")
            self._past.shown.clear()
        elif not self._settings.watch:
            raise Ended(f"{folder}: all {self._past.count} pictures were shown", final=True)

    def _show_all(self, sink: Sink, stop: threading.Event) -> None:
        watching = self._settings.watch and not self._settings.loop
        there = self._look(sink)
        # What was deleted is forgotten: no growth for ever. A folder without any picture may be the place of
        # a share that isn't mounted at present.
        if there:
            self._past.shown = {path: stamp for path, stamp in self._past.shown.items() if path in there}
        for path, stamp in there.items():
            if stamp is None or self._past.shown.get(path) == stamp:
                continue
            if watching and _is_being_written(stamp):
                continue
            if self._wait_due(sink, stop) and watching and _is_written_anew(path, stamp):
                continue  # while it waited: the next look takes it, and takes it once
            is_done = not stop.is_set() and self._show(path, stamp, sink)
            if stop.is_set():
                return  # whether it was taken is not known
            if is_done:
                self._past.shown[path] = stamp
            if not wait_until(time.monotonic() + self._settings.interval_s, sink, stop):
                return

    def _look(self, sink: Sink) -> dict[str, Stamp | None]:
        """What is there now, in order; None: what a file is can't be told at present."""
        folder, begun = self._settings.path, time.monotonic()
        try:
            there = {str(path): _stamp(path, sink) for path in pictures(folder, sink.alive)}
        except OSError as error:
            self._check()
            raise explain.local(error, folder) from None
        self._check()  # it may have gone away meanwhile
        self._looked_s = time.monotonic() - begun
        return there

    def _wait_due(self, sink: Sink, stop: threading.Event) -> bool:
        """False if `stop` was set. What lies in a folder can wait: nothing of a heap has to be left out. In
        short steps, as the camera may get another rate.
        """
        while (left_s := sink.due_in_s(time.time())) > 0.0:
            if not wait_until(time.monotonic() + min(left_s, _LOOK_S), sink, stop):
                return False
        return True

    def _show(self, path: str, stamp: Stamp, sink: Sink) -> bool:
        """False if it is gone, and may come back with its share."""
        taken_at = time.time()
        sink.alive()
        if not sink.due(taken_at):
            return True
        try:
            pixels = self._read(path, stamp)
        except FileNotFoundError:
            self._check()
            self._skip(path, sink)
            return False
        if pixels is None:
            self._skip(path, sink)
        else:
            self._past.count += 1
            sink.put(pixels, taken_at)
        return True

    def _skip(self, path: str, sink: Sink) -> None:
        sink.skipped("unreadable")
        past, now = self._past, time.monotonic()
        past.unsaid += 1
        if now - past.said_at < _SAID_EVERY_S:
            return
        others = f" (and {past.unsaid - 1} before it)" if past.unsaid > 1 else ""
        what = "can't be read as a picture (of 100 megapixels at most), and is skipped"
        log.warning("camera %s: %s %s%s", self._camera, path, what, others)
        past.unsaid, past.said_at = 0, now

    def _read(self, path: str, stamp: Stamp) -> NDArray[np.uint8] | None:
        """None if it is no picture. Raises FileNotFoundError; and Unreachable once for a file: if that is
        the share, its picture is still to be shown; if it is the file alone, the second time passes it by.
        """
        is_second = self._past.trying == path
        if is_second:
            self._past.shown[path] = stamp  # now: this time it may hang
        self._past.trying = path
        try:
            pixels = load(Path(path))
        except FileNotFoundError:
            self._past.trying = None
            raise
        except OSError as error:
            self._check()
            if not is_second and not isinstance(error, PermissionError):
                raise explain.local(error, Path(path)) from None
            pixels = None
        self._past.trying = None
        return pixels


def pictures(folder: Path, step: Callable[[], object] = lambda: None) -> list[Path]:
    """All picture files in `folder` and below, sorted by path; without hidden ones, and without subfolders
    that nobody lets us read (a disk's lost+found). `step` is called for each folder. Raises OSError.
    """

    def failed(error: OSError) -> None:
        is_below = error.filename != str(folder)
        if not (is_below and isinstance(error, PermissionError | FileNotFoundError)):
            raise error

    found = []
    for root, folders, names in os.walk(folder, onerror=failed):
        step()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        suffixed = (name for name in names if Path(name).suffix.lower() in SUFFIXES)
        found += [Path(root) / name for name in suffixed if not name.startswith(".")]
    return sorted(found)


def read(path: Path) -> NDArray[np.uint8] | None:
    """As `load`; None also if the file can't be read."""
    try:
        return load(path)
    except OSError:
        return None


def load(path: Path) -> NDArray[np.uint8] | None:
    """(H, W, 3) uint8 RGB, deeper or grey ones converted; None if it is no picture, or too large a one
    (config/__init__.py). Raises OSError.
    """
    status = path.stat()
    if not S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
        return None  # reading a pipe waits for ever
    return decode(path.read_bytes())


def decode(encoded: bytes) -> NDArray[np.uint8] | None:
    """The same for the bytes of a picture, PNG, JPEG or what else OpenCV reads."""
    try:
        decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB) if encoded else None
    except cv2.error:
        return None
    return None if decoded is None else np.asarray(decoded, dtype=np.uint8)


def _stamp(path: Path, sink: Sink) -> Stamp | None:
    sink.alive()
    try:
        stat = path.stat()
    except (FileNotFoundError, PermissionError):
        return None
    return stat.st_mtime_ns, stat.st_size


def _is_written_anew(path: str, stamp: Stamp) -> bool:
    try:
        stat = Path(path).stat()
    except OSError:
        return False  # reading it will tell
    return (stat.st_mtime_ns, stat.st_size) != stamp


def _is_being_written(stamp: Stamp) -> bool:
    mtime_ns, size = stamp
    return not size or abs(time.time() - mtime_ns / 1e9) < _SETTLED_S


def build(camera: str, settings: FolderSettings) -> FolderSource:
    """The entry point `folder`."""
    return FolderSource(camera, settings)
