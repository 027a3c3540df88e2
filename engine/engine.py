"""The engine owns the device thread: frames are offered by any thread, inspections come out of that one."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from .batcher import Batcher, Dropped, Mode
from .begun import Begun, RunsBatches
from .complaints import Complaints
from .core import Batch, Frame, Inspection
from .errors import ArtifactError, DeviceError, EngineError, OutOfMemory
from .grouping import Entries
from .library import Entry
from .meter import Meter

# How much a new measurement of the device's speed counts against the older ones.
_COST_MEMORY = 0.8
# Single frames that fail one after the other before the device counts as lost.
_LOST_AFTER = 3
# A device that only has no memory left counts as lost when nothing went well for so long: another program may
# have needed it for a moment, and from a failover nothing leads back.
_SHORT_FOR_S = 5.0
# Single frames of one camera that fail one after the other before its model counts as broken.
_BROKEN_AFTER = 10
# Batches that go well before batches that a device error made small may be twice as large again: what passed
# costs a minute or so of smaller batches, and what stays costs no more than one batch a minute that fails.
_GROWS_AFTER = 500


class Engine:
    """Batches all cameras on one device.

    `on_inspections(list)` and `on_error(EngineError)` are called on the device thread; `on_dropped(frame,
    reason)` on the thread in which the frame was dropped. They must return at once and not raise: hand over
    to your own loop. The same error is said once a minute. Batches that a device error made smaller than
    `max_batch` grow again, step by step. A camera whose model keeps failing is removed from the library, and
    said so, until a model is put for it again. A bug, ours or a callback's, ends the device thread: `failed`
    then holds it, `on_error` says so, and `offer` refuses; the process should stop. Every frame that was
    taken comes out inspected or dropped, also then.
    """

    def __init__(
        self,
        runner: RunsBatches,
        *,
        max_batch: int = 16,
        max_wait_ms: float = 10.0,
        deadline_ms: float = 200.0,
        line_frames: int = 16,
        on_inspections: Callable[[list[Inspection]], None],
        on_dropped: Callable[[Frame, str], None] = lambda frame, reason: None,
        on_error: Callable[[EngineError], None] = lambda error: None,
        fallback: Callable[[], RunsBatches] | None = None,
        meter: Meter | None = None,
    ) -> None:
        self.meter = meter or Meter()
        self.failed: BaseException | None = None
        self._runner = runner
        self._library = runner.library
        self._on_inspections, self._on_dropped, self._on_error = on_inspections, on_dropped, on_error
        self._batcher = Batcher(
            max_batch=max_batch,
            max_wait_s=max_wait_ms / 1000.0,
            deadline_s=deadline_ms / 1000.0,
            line_frames=line_frames,
        )
        self._wished_batch = max_batch
        self._changed = threading.Condition()
        self._stopping = False
        self._busy_since: float | None = None
        # What the device computes while the next batch is made ready, where that overlaps.
        self._ahead: Begun | None = None
        self._frame_cost_s = 0.0
        self._fallback = fallback
        self._device_errors_in_a_row = self._good_in_a_row = 0
        self._trouble_since = 0.0
        self._failures_in_a_row: Counter[str] = Counter()
        # Taken out of their places and neither inspected nor dropped yet; the device thread's own.
        self._in_hand: dict[Frame, None] = {}
        self._complaints = Complaints()
        # A daemon, so that a device that hangs for ever can't keep the process alive after `stop` gave up on
        # it.
        self._thread = threading.Thread(target=self._main, name="linewatch-device", daemon=True)

    def start(self) -> None:
        """Start the device thread; once."""
        self._thread.start()

    def set_mode(self, camera: str, mode: Mode) -> None:
        """Register a camera as `latest` (newest frame wins) or `every` (a bounded line that refuses)."""
        with self._changed:
            self._batcher.set_mode(camera, mode)

    def remove(self, camera: str) -> None:
        """Forget a camera: its model, and the frames that wait."""
        self._library.remove(camera)
        with self._changed:
            dropped = self._batcher.remove(camera)
        self._drop(dropped)

    def offer(self, frame: Frame) -> bool:
        """Put a frame in its camera's place, from any thread; never blocks. False if it was not taken."""
        if self._library.get(frame.camera) is None:
            self._drop_one(frame, "no_model")
            return False
        with self._changed:
            open_ = not self._stopping and self.failed is None
            gone = self._batcher.offer(frame, time.monotonic()) if open_ else Dropped(frame, "stopped")
            self._changed.notify()
        if gone is not None:
            self._drop([gone])
        return gone is None or gone.frame is not frame

    def stop(self, timeout_s: float = 10.0) -> bool:
        """Finish the batch in hand, drop what waits. False if the device didn't finish in time."""
        with self._changed:
            self._stopping = True
            left = self._batcher.clear()
            self._changed.notify_all()
        self._drop(left)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Frames in their places now."""
        with self._changed:
            return len(self._batcher)

    @property
    def busy_since(self) -> float | None:
        """`time.monotonic()` when the batch in hand began; None between batches. Any thread."""
        return self._busy_since

    def is_stuck(self, now: float, limit_s: float) -> bool:
        """Whether the batch in hand has taken longer than `limit_s`: for a watchdog."""
        since = self._busy_since
        return since is not None and now - since > limit_s

    def _main(self) -> None:
        try:
            while (batch := self._next()) is not None:
                if self._runner.overlaps(len(batch.frames)):
                    self._inspect_beside(batch)
                else:
                    self._land_ahead()
                    self._inspect(batch)
            self._land_ahead()
        except EngineError as lost:
            self._end(lost, lost)
        except Exception as bug:  # noqa: BLE001 (the outermost line of this thread)
            error = EngineError(f"The engine stopped because of a bug: {type(bug).__name__}: {bug}")
            error.__cause__ = bug
            self._end(bug, error)

    def _end(self, failed: BaseException, error: EngineError) -> None:
        """The device thread's last words: who is in hand or waits is told, and nothing is taken any more."""
        with self._changed:
            self.failed = failed
            left = [*self._in_hand, *(dropped.frame for dropped in self._batcher.clear())]
        self._in_hand.clear()
        self._busy_since = None
        self.meter.error("ended")
        for frame in left:
            # It may be this callback that ended the thread: it is told all the same, and the error is said.
            with suppress(Exception):
                self._drop_one(frame, "failed")
        self._on_error(error)

    def _next(self) -> Batch | None:
        """Wait for the batch that is due; None when stopping. Nothing is ahead while it waits."""
        while True:
            if self._ahead is not None and not self._ahead.runner.sends_ahead:
                # First, so that the frames that go next are the newest when the device is free for them.
                self._ahead.fetch()
            with self._changed:
                if self._stopping:
                    return None
                now = time.monotonic()
                batch, late = self._batcher.take(now, self._frame_cost_s)
                nothing_due = batch is None and not late
                if nothing_due and self._ahead is None:
                    due = self._batcher.due_at()
                    self._changed.wait(None if due is None else max(due - now, 0.0))
                    continue
            if nothing_due:
                self._land_ahead()
                continue
            self._in_hand.update(dict.fromkeys([*(d.frame for d in late), *(batch.frames if batch else ())]))
            for dropped in late:
                self._let_go(dropped.frame, dropped.reason)
            if batch is not None:
                return batch

    def _inspect(self, batch: Batch) -> None:
        """One batch, from its first step to its last."""
        begun = self._begin(batch)
        if begun is not None:
            begun.compute()
            self._land(begun)

    def _inspect_beside(self, batch: Batch) -> None:
        """Let the device compute this batch, if it takes it already while it computes the one ahead, and tell
        of the one ahead meanwhile. Whatever fails, frames are told of in the order in which they went in."""
        begun = self._begin(batch)
        if begun is None:
            return
        ahead, self._ahead = self._ahead, begun
        if ahead is not None and ahead.failed is not None:
            # At once: its halves need memory, and this batch takes more as soon as it is computed.
            self._tell(ahead)
            ahead = None
        if begun.runner is self._runner:
            begun.compute()
        if ahead is not None:
            ahead.fetch()
            self._tell(ahead)
        if begun.failed is not None or begun.runner is not self._runner:
            self._land_ahead()

    def _begin(self, batch: Batch) -> Begun | None:
        """None if all its cameras are gone."""
        entries = self._library.snapshot()
        for frame in batch.frames:
            if frame.camera not in entries:
                self._let_go(frame, "removed")
        frames = tuple(frame for frame in batch.frames if frame.camera in entries)
        if not frames:
            return None
        self._busy_since = self._busy_since or time.monotonic()
        return Begun(self._runner, Batch(frames), entries)

    def _land(self, begun: Begun) -> None:
        if begun.runner is not self._runner:
            # The device that it was sent to is lost by now.
            return self._inspect(begun.batch)
        begun.fetch()
        self._tell(begun)

    def _land_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            self._land(ahead)

    def _tell(self, begun: Begun) -> None:
        """What came of it; if it failed, it is tried again."""
        inspections = begun.inspections()
        self._busy_since = None if self._ahead is None else self._ahead.started
        if begun.failed is not None:
            self._recover(begun.batch, begun.entries, begun.failed)
        elif inspections is not None:
            self._deliver(inspections, time.monotonic() - begun.started)

    def _deliver(self, inspections: list[Inspection], seconds: float) -> None:
        cost = seconds / len(inspections)
        kept = _COST_MEMORY if self._frame_cost_s else 0.0
        self._frame_cost_s = kept * self._frame_cost_s + (1.0 - kept) * cost
        self._device_errors_in_a_row = 0
        self._grow()
        self.meter.batch(len(inspections))
        self.meter.stages({k: v for k, v in inspections[0].timings_s.items() if k != "queue"})
        for inspection in inspections:
            self._failures_in_a_row.pop(inspection.frame.camera, None)
            self._in_hand.pop(inspection.frame, None)
            self.meter.frame(inspection.frame.camera, "inspected")
            self.meter.stages({"queue": inspection.timings_s["queue"]})
        self._on_inspections(inspections)

    def _recover(self, batch: Batch, entries: Entries, error: EngineError) -> None:
        """Say it; try again in halves; a single frame that fails is dropped."""
        self.meter.error(type(error).__name__)
        if (said := self._complaints.worded(error, time.monotonic())) is not None:
            self._on_error(said)
        count = len(batch.frames)
        if count == 1:
            self._let_go(batch.frames[0], "failed")
            self._count_failure(entries[batch.frames[0].camera], error)
            self._count_device_error(error)
            return
        if isinstance(error, DeviceError):
            self._good_in_a_row = 0
            with self._changed:
                self._batcher.max_batch = min(self._batcher.max_batch, max(1, count // 2))
        for half in (batch.frames[: count // 2], batch.frames[count // 2 :]):
            self._inspect(Batch(half))

    def _grow(self) -> None:
        """After so many batches that went well: the error passed, or the device has room again."""
        self._good_in_a_row += 1
        if self._good_in_a_row >= _GROWS_AFTER:
            self._good_in_a_row = 0
            with self._changed:
                self._batcher.max_batch = min(2 * self._batcher.max_batch, self._wished_batch)

    def _count_failure(self, entry: Entry, error: EngineError) -> None:
        """A camera that keeps failing goes out of the batches: each time it fails all of them go twice."""
        if isinstance(error, DeviceError) and self._device_errors_in_a_row:
            return  # the device has trouble with others, too
        self._failures_in_a_row[entry.camera] += 1
        if self._failures_in_a_row[entry.camera] < _BROKEN_AFTER:
            return
        del self._failures_in_a_row[entry.camera]
        model = f"{entry.info.name}@{entry.info.version}"
        may_return = isinstance(error, DeviceError)
        why = (
            f"Camera {entry.camera} is not inspected for now: the device failed {_BROKEN_AFTER} times in a "
            f"row with its model {model}, which is tried again soon. Last error: {error}"
            if may_return
            else f"Camera {entry.camera} is not inspected any more: its model {model} failed {_BROKEN_AFTER} "
            f"times in a row; choose another version. Last error: {error}"
        )
        # Else another model was put meanwhile: it gets its own chance.
        if self._library.discard(entry, why, may_return=may_return):
            self.meter.error("taken_out")
            self._on_error(type(error)(why) if may_return else ArtifactError(why))

    def _count_device_error(self, error: EngineError) -> None:
        """Single frames that keep failing mean that the device is lost: go on elsewhere, or end loudly."""
        if not isinstance(error, DeviceError):
            return
        if not self._device_errors_in_a_row:
            self._trouble_since = time.monotonic()
        self._device_errors_in_a_row += 1
        short = isinstance(error, OutOfMemory) and time.monotonic() - self._trouble_since < _SHORT_FOR_S
        if self._device_errors_in_a_row < _LOST_AFTER or short:
            return
        if self._fallback is None:
            raise error
        fallback, self._fallback = self._fallback, None
        # Making the models ready elsewhere takes seconds, and nothing is inspected: that is busy, too.
        self._busy_since = time.monotonic()
        self._runner = fallback()
        self._busy_since = None
        self._device_errors_in_a_row, self._frame_cost_s = 0, 0.0
        # The lost device's trouble says nothing of this one.
        with self._changed:
            self._batcher.max_batch = self._wished_batch
        self._failures_in_a_row.clear()
        self.meter.error("failover")
        self._on_error(
            DeviceError(f"The device is lost; inspection goes on elsewhere, slower. Last error: {error}")
        )
        for camera, why in self._runner.refused:
            self._on_error(type(why)(f"Camera {camera} is not inspected any more: {why}"))

    def _drop(self, dropped: list[Dropped]) -> None:
        for one in dropped:
            self._drop_one(one.frame, one.reason)

    def _let_go(self, frame: Frame, reason: str) -> None:
        """Drop a frame in hand. First out of the hand: if `on_dropped` raises, it isn't told twice."""
        self._in_hand.pop(frame, None)
        self._drop_one(frame, reason)

    def _drop_one(self, frame: Frame, reason: str) -> None:
        self.meter.frame(frame.camera, reason)
        self._on_dropped(frame, reason)
