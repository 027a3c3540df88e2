"""Keep one source running: attempts without end, deadlines from outside, one state with a reason.

Everything here runs on the event loop except `on_*`, which the reader's thread calls. The loop never waits
for a reader: one that ignores its deadline is closed, given a grace to end, and then abandoned. Abandoned
threads are counted; with `MAX_ABANDONED` of them alive nothing new is started until one ends, so a hanging
library costs a handful of threads per camera and never more. Daemons, they don't keep the process from
ending.
"""

import asyncio
import contextlib
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from config.settings import CameraSettings
from engine.core import Frame

from .arrivals import Arrivals
from .backoff import Backoff
from .condition import CameraState, Condition, Patience
from .health import Finding, Freshness, Health, HealthLimits, Rates, View, small_grey
from .outages import HealthChange, HealthChanges, Outage, OutagePolicy, Outages
from .reader import Making, Reader
from .sources.base import Ended, Resuming, Source, SourceError
from .thinning import Thinning

log = logging.getLogger(__name__)

MAX_ABANDONED = 3
_LOOK_S = 0.1
_HEALTH_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class CameraPolicy:
    """`fps` None takes every picture, `frozen_after_s` None never says frozen; `grace_s`: time to end."""

    fps: float | None = None
    down_after_s: float = 10.0
    frozen_after_s: float | None = 10.0
    grace_s: float = 1.0
    limits: HealthLimits = field(default_factory=HealthLimits)
    outages: OutagePolicy = field(default_factory=OutagePolicy)

    @classmethod
    def of(cls, settings: CameraSettings) -> "CameraPolicy":
        """What the config says; in `every` mode no picture is left out."""
        health = settings.health
        return cls(
            fps=settings.fps if settings.frames == "latest" else None,
            down_after_s=settings.down_after_s,
            frozen_after_s=health.frozen_after_s,
            limits=HealthLimits(**health.model_dump(exclude={"frozen_after_s", "max_flaps_per_hour"})),
            outages=OutagePolicy(flaps=health.max_flaps_per_hour, flap_window_s=3600.0),
        )

    @property
    def patience(self) -> Patience:
        """How long the camera may show nothing, or nothing new."""
        return Patience(self.down_after_s, self.frozen_after_s, 1.0 / self.fps if self.fps else 0.0)


@dataclass(frozen=True, slots=True)
class CameraStats:
    """A snapshot. `age_s`: since the last picture with new content, None before it; `fps`: what arrives."""

    received: int
    decimated: int
    offered: int
    skipped: dict[str, int]
    reconnects: dict[str, int]
    abandoned: int
    age_s: float | None
    fps: float
    size: tuple[int, int] | None
    clock_offset_s: float | None
    findings: tuple[Finding, ...]


class Camera:
    """One camera of the line. `offer` must not block: it is called from the reader's thread, under a lock."""

    def __init__(
        self,
        name: str,
        make_source: Callable[[], Source],
        *,
        offer: Callable[[Frame], object],
        policy: CameraPolicy | None = None,
        view: View | None = None,
        on_state: Callable[[CameraState], None] = lambda state: None,
        on_outage: Callable[[Outage], None] = lambda outage: None,
        on_health: Callable[[HealthChange], None] = lambda change: None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        """`make_source` is called for every attempt. The other `on_…` are called on the event loop."""
        self.name = name
        self._make_source = make_source
        self._offer = offer
        self._policy = policy or CameraPolicy()
        self._on_state, self._on_outage, self._on_health = on_state, on_outage, on_health
        self._lock = threading.Lock()
        self._condition = self._new_condition()
        self._outages = Outages(self._policy.outages)
        self._changes = HealthChanges(name, self._policy.outages)
        self._state = CameraState(name, "connecting", "not started", time.time())
        self._thinning = Thinning(self._policy.fps)
        self._freshness = Freshness()
        self._health = Health(self._policy.limits, view)
        self._backoff = Backoff(rng)
        self._counts: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._reconnects: Counter[str] = Counter()
        self._arrivals = Arrivals()
        self._seq = 0
        self._steady = True
        self._new_at: float | None = None
        self._pictured_at: float | None = None
        self._health_at = 0.0
        self._findings: tuple[Finding, ...] = ()
        self._clock_offset_s: float | None = None
        self._size: tuple[int, int] | None = None
        self._abandoned: list[Reader] = []
        self._before: Source | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._look = asyncio.Event()
        self._stopping = asyncio.Event()
        self._over = asyncio.Event()
        self._replaced = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns at once; the camera connects in the background. Its first state is told before that."""
        self._loop = asyncio.get_running_loop()
        self._condition = self._new_condition()
        self._judge()
        self._task = asyncio.create_task(self._keep(), name=f"camera-{self.name}")

    async def stop(self) -> None:
        """Ends the reader, within a grace of a second, and the supervision. Safe to call twice."""
        self._stopping.set()
        self._look.set()
        if self._task is not None:
            await self._task

    async def finished(self) -> None:
        """Returns when the source is over for good: a recording that isn't looped. Live cameras never are."""
        await self._over.wait()

    @property
    def died(self) -> BaseException | None:
        """The bug that ended this camera's supervision, if one did; its owner should stop the process."""
        task = self._task
        return task.exception() if task is not None and task.done() and not task.cancelled() else None

    def retune(self, policy: CameraPolicy) -> None:
        """Another rate and other limits from the next picture on; the connection stays."""
        with self._lock:
            if policy.fps != self._policy.fps:
                self._thinning = Thinning(policy.fps)
            self._policy = policy
            self._condition.retune(policy.patience)
            self._health.retune(policy.limits)
        self._outages.retune(policy.outages)
        self._changes.retune(policy.outages)

    def reconnect(self, make_source: Callable[[], Source]) -> None:
        """Leave the present source for another one, at once; numbers, outages and findings go on."""
        self._make_source = make_source
        self._backoff = Backoff(self._backoff.rng)
        self._replaced.set()
        self._look.set()

    def set_view(self, view: View | None) -> None:
        """The camera's model was trained anew: its pictures are compared with another view from now on."""
        with self._lock:
            self._health.set_view(view)

    @property
    def state(self) -> CameraState:
        return self._state

    def stats(self) -> CameraStats:
        """Counters since the start; any thread may ask."""
        now = time.monotonic()
        with self._lock:
            return CameraStats(
                received=self._counts["received"],
                decimated=self._counts["decimated"],
                offered=self._seq,
                skipped=dict(self._skipped),
                reconnects=dict(self._reconnects),
                abandoned=len(self._abandoned),
                age_s=None if self._new_at is None else now - self._new_at,
                fps=self._arrivals.fps(now),
                size=self._size,
                clock_offset_s=self._clock_offset_s,
                findings=self._findings,
            )

    # What the reader tells (Intake): its thread, under the lock.

    def on_connected(self, what: str) -> None:
        self._condition.connected(what)

    def on_received(self, taken_at: float) -> bool:
        self._counts["received"] += 1
        now = time.monotonic()
        self._arrivals.note(now)
        if self._thinning.due(taken_at):
            return True
        self._counts["decimated"] += 1
        self._condition.left_out(now)
        return False

    def due_in_s(self, taken_at: float) -> float:
        return self._thinning.due_in_s(taken_at)

    def on_picture(self, pixels: NDArray[np.uint8], taken_at: float, clock: str) -> None:
        now = time.monotonic()
        self._seq += 1
        first = self._pictured_at is None
        if first:
            self._pictured_at = now
        self._examine(pixels, now)
        self._offer(Frame(self.name, self._seq, taken_at, now, pixels, clock))
        if first:
            self._wake()

    def on_skipped(self, why: str) -> None:
        self._skipped[why] += 1

    def on_clock(self, offset_s: float) -> None:
        self._clock_offset_s = offset_s

    def _examine(self, pixels: NDArray[np.uint8], now: float) -> None:
        new = self._freshness.is_new(pixels)
        if new:
            self._new_at = now
        self._condition.picture(now, new=new)
        self._size = (pixels.shape[1], pixels.shape[0])
        if now - self._health_at >= _HEALTH_EVERY_S:
            self._health_at = now
            wanted_fps = self._policy.fps if self._steady else None
            rates = Rates(wanted_fps, self._arrivals.fps(now), self._clock_offset_s)
            self._findings = self._health.update(small_grey(pixels), rates, now)

    # The supervision: event loop.

    async def _keep(self) -> None:
        while not self._stopping.is_set():
            self._begin_anew()
            if self._is_full():
                await self._pause(1.0)
                continue
            begun = time.monotonic()
            error = await self._attempt()
            if error is None:
                continue
            took_s = time.monotonic() - begun
            self._account(error)
            if isinstance(error, Ended) and error.final:
                await self._finish()
            else:
                await self._pause(self._backoff.failed(self._live_s(), error.cap_s, took_s))

    def _begin_anew(self) -> None:
        """After `reconnect`: what the old source failed of is no news of the new one."""
        if self._replaced.is_set():
            self._replaced.clear()
            self._over.clear()
            with self._lock:
                self._condition = self._new_condition()
                self._clock_offset_s = None  # another camera's clock, or one that never says its time
            self._judge()

    def _is_wanted(self) -> bool:
        """Whether what runs or waits now is to go on."""
        return not (self._stopping.is_set() or self._replaced.is_set())

    async def _attempt(self) -> SourceError | None:
        """One connection, from making the source until it ended; None if it was us who ended it."""
        making = Making(self._make_source, self._before, self._wake)
        while making.source is None and self._is_wanted():
            await self._wait_look()
            self._judge()
        source = making.source
        if source is None or isinstance(source, SourceError):
            return source if self._is_wanted() else None
        if isinstance(source, Resuming):
            self._before = source
        reader = Reader(source, self, self._lock, self._wake, f"camera-{self.name}")
        with self._lock:
            self._pictured_at = None
            self._thinning = Thinning(self._policy.fps)  # a connection's first picture is always due
            self._steady = source.steady
            self._condition.attempt(steady=source.steady)
        reader.start()
        try:
            error = await self._watch(reader)
            await self._end(reader)
        finally:
            reader.ask_to_stop()  # also when a bug ends the supervision
        return error if self._is_wanted() else None

    async def _watch(self, reader: Reader) -> SourceError | None:
        while self._is_wanted():
            await self._wait_look()
            self._judge()
            if reader.ended:
                return reader.error or Ended("the source ended without a word")
            if (overdue := reader.overdue(time.monotonic())) is not None:
                return overdue
        return None

    async def _end(self, reader: Reader) -> None:
        """Ask the reader to end; abandon it if it doesn't within the grace."""
        reader.ask_to_stop()
        deadline = time.monotonic() + self._policy.grace_s
        while not reader.ended and time.monotonic() < deadline:
            await self._wait_look()
        if not reader.ended:
            self._abandoned.append(reader)
            log.warning("%s: a reader hangs, in a library or on a silent camera, and is abandoned", self.name)

    def _is_full(self) -> bool:
        self._abandoned = [reader for reader in self._abandoned if not reader.ended]
        if len(self._abandoned) < MAX_ABANDONED:
            return False
        error = SourceError(f"{MAX_ABANDONED} readers hang inside a library; waiting until one of them ends")
        with self._lock:
            self._condition.failed(error)
        return True

    def _account(self, error: SourceError) -> None:
        with self._lock:
            self._reconnects[error.reason] += 1
            self._condition.failed(error)
        self._judge()

    async def _finish(self) -> None:
        with self._lock:
            self._condition.finished()
        self._judge()
        self._over.set()
        while self._is_wanted():
            await self._wait_look(1.0)

    async def _pause(self, delay_s: float) -> None:
        deadline = time.monotonic() + delay_s
        while self._is_wanted() and time.monotonic() < deadline:
            await self._wait_look(min(_LOOK_S, max(0.0, deadline - time.monotonic())))
            self._judge()

    async def _wait_look(self, longest_s: float = _LOOK_S) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._look.wait()
        if not self._stopping.is_set():
            self._look.clear()
        else:
            await asyncio.sleep(0.005)  # `_look` stays set while stopping: don't spin

    def _judge(self) -> None:
        now = time.monotonic()
        with self._lock:
            state, reason = self._condition.judge(now)
        before = self._state
        if (state, reason) != (before.state, before.reason):
            since = before.since if state == before.state else time.time()
            self._state = CameraState(self.name, state, reason, since)
            self._on_state(self._state)
        if (outage := self._outages.update(self._state, now)) is not None:
            self._on_outage(outage)
        for change in self._changes.update(self._findings, now):
            self._on_health(change)

    def _live_s(self) -> float:
        with self._lock:
            return 0.0 if self._pictured_at is None else time.monotonic() - self._pictured_at

    def _wake(self) -> None:
        if self._loop is not None:
            # The loop may be closed: an abandoned reader woke up at the end.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._look.set)

    def _new_condition(self) -> Condition:
        return Condition(self._policy.patience, now=time.monotonic())
