"""Pictures of defects on disk: kept when an incident opens, looked at on the page, answered by people.

One item is three files in FOLDER/CAMERA/: STEM.png (the frame as inspected, lossless, fit for training),
STEM.jpg (with map and boxes) and STEM.json (what was found, and what a person said; written last, so an
item without it is a half one and is removed). STEM.scores, the scores around it, may come some time later.
STEM is the time of the picture and a hash of its pixels: sorted by name is sorted by time, and a picture
that was altered no longer has its name.
"""

import contextlib
import hashlib
import json
import logging
import queue
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import cv2

from engine.core import Inspection

from . import overlay
from .collection import write_png, write_whole
from .housekeeping import in_order
from .steady_days import SteadyDays

log = logging.getLogger(__name__)

SCHEMA = "evidence/1"
Feedback = Literal["false_alarm", "confirmed"]
_MAX_WAITING = 32
_LOOK_EVERY_S = 600.0
_FRESH = 256
_BUSY_S = 1.0
_STEM = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z-[0-9a-f]{16}")
# What a crash leaves of `write_whole`; `part` is what an earlier version left.
_UNFINISHED = re.compile(rf"\.{_STEM.pattern}\.(png|jpg|json|scores)\.(part|[0-9]+)")
Kind = Literal["png", "jpg", "json", "scores"]
_CAMERA = re.compile(r"[a-z0-9_-]{1,64}")


class EvidenceError(Exception):
    """There is no such evidence, or its folder can't be used; one sentence for a person."""

    user_message = True


@dataclass(frozen=True, slots=True)
class Item:
    """One kept picture.

    `boxes` are 0–1 of the frame (x0, y0, x1, y1), strongest first; `size_bytes` of all files; `taken_at` is
    by the camera's clock, which may be wrong by years, `kept_at` by ours (0: unknown).
    """

    camera: str
    stem: str
    taken_at: float
    score_ratio: float
    model: str
    boxes: tuple[tuple[float, float, float, float], ...]
    size_bytes: int
    feedback: Feedback | None = None
    kept_at: float = 0.0

    @property
    def since(self) -> float:
        """From when on its age counts."""
        return self.kept_at or self.taken_at

    @property
    def image(self) -> str:
        """Relative URL of the picture."""
        return f"evidence/{self.camera}/{self.stem}.png"

    @property
    def heatmap(self) -> str:
        """Relative URL of the picture with map and boxes."""
        return f"evidence/{self.camera}/{self.stem}.jpg"


def overdue(items: Iterable[Item], now: float, *, max_bytes: int, max_age_s: float | None) -> list[Item]:
    """What has to go (pure): what is too old unless confirmed; then the oldest, confirmed ones last."""
    kept = sorted(items, key=lambda item: (item.feedback == "confirmed", in_order(item.since, now)))
    size = sum(item.size_bytes for item in kept)
    gone = []
    for item in kept:
        old = max_age_s is not None and now - item.since > max_age_s and item.feedback != "confirmed"
        if old or size > max_bytes:
            gone.append(item)
            size -= item.size_bytes
    return gone


class Evidence:
    """`keep` on the event loop; a thread of its own writes. `start` reads what is there, `stop` writes what
    waits.

    `version` grows when a picture was written or removed; `fresh` are the last ones written, for who takes
    them out to say more. At most 32 wait; beyond that, or while the disk refuses, pictures are dropped and
    counted: the events themselves never wait for a picture.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_mb: int = 4096,
        max_age_days: float | None = 90.0,
        now_s: Callable[[], float] = time.time,
        tick_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dropped = self.version = 0
        self.fresh: deque[Item] = deque(maxlen=_FRESH)
        self._folder, self._now_s, self._tick_s = folder, now_s, tick_s
        self._max_bytes = max_mb * 1_000_000
        self._max_age_s = None if max_age_days is None else max_age_days * 86400
        self._items: dict[tuple[str, str], Item] = {}
        self._days = SteadyDays("pictures of defects")
        self._lock = threading.Lock()
        # Held while an item's files change: two people may answer at once, while room is made. Never taken
        # on the event loop, for the disk may hang.
        self._filing = threading.Lock()
        self._jobs: queue.Queue[tuple[Item, Inspection] | None] = queue.Queue(_MAX_WAITING)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Reads the folder's items (about 10,000 a second). Raises EvidenceError when it can't be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            found = {(item.camera, item.stem): item for item in _read_all(self._folder)}
        except OSError as error:
            raise EvidenceError(f"evidence.dir {self._folder}: {error.strerror}; choose another.") from error
        with self._lock:
            self._items = found
        self._thread = threading.Thread(
            target=self._write_all, args=(self._jobs,), name="evidence", daemon=True
        )
        self._thread.start()

    def stop(self, within_s: float = 10.0) -> None:
        """Writes what waits and ends the thread; what a disk does not take in time is dropped."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        deadline = time.monotonic() + within_s
        while thread.is_alive() and time.monotonic() < deadline:
            with contextlib.suppress(queue.Full):
                self._jobs.put(None, timeout=min(0.1, within_s))
                thread.join(max(0.0, deadline - time.monotonic()))
                break
        if thread.is_alive() or not self._jobs.empty():
            self._give_up()

    def _give_up(self) -> None:
        """The thread hangs or has died: it gets nothing more, and whoever starts again gets a fresh queue."""
        jobs, self._jobs = self._jobs, queue.Queue(_MAX_WAITING)
        left = 0
        with contextlib.suppress(queue.Empty):
            while True:
                left += jobs.get_nowait() is not None
        jobs.put_nowait(None)
        self.dropped += left
        log.error("the evidence's disk did not take the last pictures: %d of them are dropped", left)

    def keep(self, inspection: Inspection) -> tuple[str | None, str | None]:
        """Relative URLs of the picture and its heat map, about to be written; (None, None) when dropped."""
        item = replace(describe(inspection), kept_at=self._now_s())
        with self._lock:
            known = (item.camera, item.stem) in self._items
        if known:  # an incident and a verdict of one frame
            return item.image, item.heatmap
        try:
            self._jobs.put_nowait((item, inspection))
        except queue.Full:
            self.dropped += 1
            log.error("a picture of camera %s is not kept: the disk of evidence.dir is too slow", item.camera)
            return None, None
        with self._lock:
            self._items[item.camera, item.stem] = item
        return item.image, item.heatmap

    def items(
        self,
        *,
        camera: str | None = None,
        feedback: str | None = None,
        before: float | None = None,
        limit: int = 50,
    ) -> list[Item]:
        """Newest first; `feedback` may be `none`; `before` (UTC s, to the µs) continues an earlier list."""
        # An item whose files are still being written has no size yet.
        with self._lock:
            found = [i for i in self._items.values() if i.size_bytes and camera in (None, i.camera)]
        found = [i for i in found if feedback in (None, i.feedback or "none")]
        found = [i for i in found if before is None or round(i.taken_at, 6) < round(before, 6)]
        found.sort(key=lambda item: item.taken_at, reverse=True)
        # Those of one moment stay together: a list that goes on begins before it.
        return [i for n, i in enumerate(found) if n < limit or i.taken_at == found[limit - 1].taken_at]

    def of_image(self, image: str | None) -> Item | None:
        """The item of an event's `image`."""
        if image is None:
            return None
        camera, _, stem = image.removeprefix("evidence/").removesuffix(".png").partition("/")
        with self._lock:
            return self._items.get((camera, stem))

    def find(self, camera: str, stem: str) -> Item:
        """One item; raises EvidenceError. Only known names become paths."""
        with self._lock:
            item = self._items.get((camera, stem))
        if item is None:
            raise EvidenceError("There is no such picture; it may have been removed to make room.")
        return item

    def path(self, item: Item, kind: Kind) -> Path:
        """Where a file of an item is."""
        return self._folder / item.camera / f"{item.stem}.{kind}"

    def answer(self, camera: str, stem: str, feedback: Feedback | None, good: Path) -> Item:
        """What a person said: a false alarm's picture is copied into `good`, other answers take it back.

        Waits for the disk: not for the event loop. Raises EvidenceError, and OSError: FileNotFoundError for a
        picture that is not there.
        """
        copy = good / f"{stem}.png"
        with self._filing:
            item = self.find(camera, stem)
            if feedback == "false_alarm":
                write_whole(copy, self.path(item, "png").read_bytes())
            elif item.feedback == "false_alarm":
                copy.unlink(missing_ok=True)
            self.path(item, "png").stat()  # words without a picture would stay for ever
            answered = replace(item, feedback=feedback)
            try:
                self._write_words(answered)
            except OSError:
                copy.unlink(missing_ok=True)  # no other answer would take it back
                raise
            with self._lock:
                self._items[camera, stem] = answered
        return answered

    def keep_scores(self, item: Item, scores: bytes) -> None:
        """What the camera scored around it. Waits for the disk. Raises OSError, also when the disk is at
        something else for a second: who ends the line waits for this.
        """
        if not self._filing.acquire(timeout=_BUSY_S):
            raise TimeoutError("the disk does not answer")
        try:
            with self._lock:
                known = (item.camera, item.stem) in self._items
            if known:
                write_whole(self.path(item, "scores"), scores)
        finally:
            self._filing.release()

    def _write_all(self, jobs: queue.Queue[tuple[Item, Inspection] | None]) -> None:
        while True:
            try:
                job = jobs.get(timeout=_LOOK_EVERY_S)
            except queue.Empty:  # a quiet line's pictures get old too
                self._make_room()
                continue
            if job is None:
                return
            self._try_to_write(*job)
            self._make_room()

    def _try_to_write(self, item: Item, inspection: Inspection) -> None:
        try:
            with self._filing:
                self._write_item(item, inspection)
        except (OSError, ValueError, cv2.error) as error:
            self.dropped += 1
            log.error("a picture of camera %s could not be kept: %s", item.camera, error)
            self._forget(item)

    def _forget(self, item: Item) -> None:
        """Nothing of it stays: a picture that is not in the index would never make room again."""
        with self._filing:
            with self._lock:
                self._items.pop((item.camera, item.stem), None)
            with contextlib.suppress(OSError):
                self._remove(item)

    def _remove(self, item: Item) -> None:
        # The words first: what is left after a crash is a half item, which `start` removes.
        for kind in ("json", "png", "jpg", "scores"):
            (self._folder / item.camera / f"{item.stem}.{kind}").unlink(missing_ok=True)

    def _write_item(self, item: Item, inspection: Inspection) -> None:
        write_png(inspection.frame.pixels, self.path(item, "png"))
        write_whole(self.path(item, "jpg"), overlay.encode_jpeg(overlay.draw(inspection), 85))
        size = sum(self.path(item, kind).stat().st_size for kind in ("png", "jpg"))
        item = replace(item, size_bytes=size)
        self._write_words(item)
        with self._lock:
            self._items[item.camera, item.stem] = item
            self.version += 1
        self.fresh.append(item)

    def _write_words(self, item: Item) -> None:
        write_whole(self.path(item, "json"), json.dumps({"schema": SCHEMA, **asdict(item)}).encode())

    def _make_room(self) -> None:
        with self._lock:
            items = list(self._items.values())
        now = self._now_s()
        max_age_s = self._max_age_s if self._days.are(now, self._tick_s()) else None
        refused = []
        for item in overdue(items, now, max_bytes=self._max_bytes, max_age_s=max_age_s):
            try:
                self._let_go(item)
            except OSError as error:  # one folder that is not ours keeps no other's
                refused.append(error)
        if refused:
            log.error(
                "%d old pictures of defects can't be removed, let Linewatch do that: %s",
                *(len(refused), refused[0]),
            )

    def _let_go(self, item: Item) -> None:
        """Unless it was answered just now. Raises OSError."""
        with self._filing:
            if self._items.get((item.camera, item.stem)) is not item:
                return
            self._remove(item)
            with self._lock:
                self._items.pop((item.camera, item.stem), None)
                self.version += 1


def describe(inspection: Inspection) -> Item:
    """The words of an inspection; its pixels are hashed (3 ms at 720p)."""
    frame, model = inspection.frame, inspection.model
    height, width = frame.pixels.shape[:2]
    pixels_hash = hashlib.blake2b(frame.pixels.tobytes(), digest_size=8).hexdigest()
    taken = datetime.fromtimestamp(frame.taken_at, UTC)
    boxes = tuple(
        (d.box[0] / width, d.box[1] / height, d.box[2] / width, d.box[3] / height)
        for d in inspection.defects[:16]
    )
    return Item(
        frame.camera,
        f"{taken:%Y%m%dT%H%M%S.%f}Z-{pixels_hash}",
        frame.taken_at,
        max((d.peak for d in inspection.defects), default=inspection.score_ratio),
        f"{model.name}@{model.version}",
        boxes,
        0,
    )


def _read_all(folder: Path) -> list[Item]:
    """Whole items of a folder; half ones of an earlier crash are removed, what isn't ours is left alone."""
    found = []  # words first: pictures are kept for their sake
    for path in sorted(folder.glob("*/*"), key=lambda path: path.suffix != ".json"):
        if not _CAMERA.fullmatch(path.parent.name):
            continue
        if _UNFINISHED.fullmatch(path.name):
            path.unlink()
        if not _STEM.fullmatch(path.stem):
            continue
        if path.suffix == ".json":
            if not path.stat().st_size:  # as a power cut may leave it
                path.unlink()
            elif (item := _read(path)) is not None:
                found.append(item)
        elif path.suffix in (".png", ".jpg", ".scores") and not path.with_suffix(".json").exists():
            path.unlink()
    return found


def _read(path: Path) -> Item | None:
    try:
        words = json.loads(path.read_text())
        if words["schema"] != SCHEMA:
            raise ValueError("another schema")
        boxes = tuple((float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in words.pop("boxes"))
        known = {key: words[key] for key in words if key in Item.__slots__}  # a newer version may say more
        item = Item(**known, boxes=boxes)
        if (item.camera, item.stem) != (path.parent.name, path.stem):
            raise ValueError("moved")
    except (ValueError, KeyError, TypeError) as error:
        log.warning("%s is not evidence of ours and is left alone: %s", path, error)
        return None
    return item
