"""Which frames go through the device together, and when. Pure: no clock, no lock, no sleep.

A dict from camera to its waiting frames keeps the order in which cameras got their turn. Replacing a camera's
frame keeps its turn, so the newest picture is inspected (drop-oldest) and a fast camera can't push a slow
one back (fairness): one structure, two rules. A camera whose frame was too late keeps its turn for the next
one: else, on a device that can't do them all, slow cameras would always be at the end and always late.
"""

from collections import deque
from dataclasses import dataclass
from typing import Literal

from .core import Batch, Frame

Mode = Literal["latest", "every"]
# Why a frame was not inspected.
Reason = Literal["displaced", "late", "refused", "removed", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Dropped:
    """A frame that will not be inspected, and why."""

    frame: Frame
    reason: Reason


@dataclass(slots=True)
class _Turn:
    """One camera's place: `since` is when its turn began; replacing a frame doesn't change it."""

    since: float
    line: deque[Frame]


class Batcher:
    """Places for waiting frames, and the batch that is due.

    `max_batch` frames at most go together. A batch is due when so many wait, when every registered camera
    waits, or when the oldest turn is `max_wait_s` old. A frame of a `latest` camera that can't be done
    within `deadline_s` of its `tick` is dropped before work is spent on it; the batch is kept small enough
    for the device to finish in half of that. A camera in `every` mode has a line of `line_frames`; a full
    line refuses, and nothing in it is dropped for being late; a triggered part goes before pictures that
    nobody asked for, and displaces one where the line is full. All times are `time.monotonic()` seconds. Not
    safe for threads: the engine holds a lock.
    """

    def __init__(
        self, *, max_batch: int, max_wait_s: float, deadline_s: float, line_frames: int = 16
    ) -> None:
        if max_batch < 1 or line_frames < 1:
            raise ValueError("max_batch and line_frames must be at least 1")
        self.max_batch = max_batch
        self.max_wait_s = max_wait_s
        self.deadline_s = deadline_s
        self.line_frames = line_frames
        self._modes: dict[str, Mode] = {}
        # In the order of their `since`.
        self._turns: dict[str, _Turn] = {}
        # When the turns began of cameras that wait with nothing in hand, as their frame was too late.
        self._owed: dict[str, float] = {}

    def __len__(self) -> int:
        return sum(len(turn.line) for turn in self._turns.values())

    def set_mode(self, camera: str, mode: Mode) -> None:
        """Register a camera; going to `latest` leaves what already waits in its line."""
        self._modes[camera] = mode

    def remove(self, camera: str) -> list[Dropped]:
        """Forget a camera; what waited comes back as `removed`."""
        self._modes.pop(camera, None)
        self._owed.pop(camera, None)
        turn = self._turns.pop(camera, None)
        return [Dropped(frame, "removed") for frame in turn.line] if turn else []

    def clear(self) -> list[Dropped]:
        """Empty every place; what waited comes back as `stopped`."""
        left = [Dropped(frame, "stopped") for turn in self._turns.values() for frame in turn.line]
        self._turns.clear()
        self._owed.clear()
        return left

    def offer(self, frame: Frame, now: float) -> Dropped | None:
        """Put a frame in its camera's place; returns the frame that has to go: an older one, or this one."""
        turn = self._turns.get(frame.camera) or self._begin(frame.camera, now)
        if self._modes.get(frame.camera, "latest") == "every":
            return self._queue(turn, frame)
        displaced = turn.line.popleft() if turn.line else None
        turn.line.append(frame)
        return Dropped(displaced, "displaced") if displaced else None

    def _begin(self, camera: str, now: float) -> _Turn:
        """A place at the end, or where the camera already stood."""
        turn = _Turn(self._owed.pop(camera, now), deque())
        behind = [other for other, its in self._turns.items() if its.since > turn.since]
        self._turns[camera] = turn
        for other in behind:
            self._turns[other] = self._turns.pop(other)
        return turn

    def _queue(self, turn: _Turn, frame: Frame) -> Dropped | None:
        bare = [n for n, waiting in enumerate(turn.line) if waiting.part_id is None]
        # A part goes before pictures that nobody asked for, and one of them gives way to it.
        turn.line.insert(bare[0] if bare and frame.part_id is not None else len(turn.line), frame)
        if len(turn.line) <= self.line_frames:
            return None
        gone = turn.line.pop()
        return Dropped(gone, "refused" if gone is frame else "displaced")

    def due_at(self) -> float | None:
        """When the next batch is due if nothing else arrives; None with nothing waiting, -inf for "now"."""
        if not self._turns:
            return None
        everybody = bool(self._modes) and len(self._turns) >= len(self._modes)
        if everybody or len(self) >= self.max_batch:
            return float("-inf")
        return min(turn.since for turn in self._turns.values()) + self.max_wait_s

    def take(self, now: float, frame_cost_s: float = 0.0) -> tuple[Batch | None, list[Dropped]]:
        """The batch that is due, if one is, and the frames that are too late.

        `frame_cost_s` is what the device lately needed for a frame.
        """
        due = self.due_at()
        if due is None or now < due:
            return None, []
        late = self._drop_late(now, frame_cost_s)
        frames = self._collect(self._room(frame_cost_s), now)
        return (Batch(tuple(frames)) if frames else None), late

    def _room(self, frame_cost_s: float) -> int:
        if frame_cost_s <= 0.0:
            return self.max_batch
        return max(1, min(self.max_batch, int(0.5 * self.deadline_s / frame_cost_s)))

    def _drop_late(self, now: float, frame_cost_s: float) -> list[Dropped]:
        heads = [
            turn.line[0]
            for camera, turn in self._turns.items()
            if self._modes.get(camera, "latest") == "latest"
        ]
        late: list[Dropped] = []
        for frame in sorted(heads, key=lambda head: head.tick):
            # A frame is done when its batch is. The oldest goes first: without it the batch is shorter, and
            # the others may make it.
            together = min(self._room(frame_cost_s), len(self))
            # Never more than half the deadline: on a device that is slower than the deadline a fresh frame
            # must still get its try, or no measurement could ever show that the device has recovered.
            if now + min(frame_cost_s * together, 0.5 * self.deadline_s) <= frame.tick + self.deadline_s:
                break
            late.append(Dropped(frame, "late"))
            turn = self._turns[frame.camera]
            turn.line.popleft()
            if not turn.line:
                self._owed[frame.camera] = self._turns.pop(frame.camera).since
        return late

    def _collect(self, room: int, now: float) -> list[Frame]:
        """Round by round, one frame a camera, oldest turn first; who has more goes to the end with a new
        turn."""
        frames: list[Frame] = []
        while self._turns and len(frames) < room:
            camera = next(iter(self._turns))
            turn = self._turns.pop(camera)
            frames.append(turn.line.popleft())
            if turn.line:
                self._turns[camera] = _Turn(now, turn.line)
        return frames
