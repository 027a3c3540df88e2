"""Events to the sink: in order for each camera, cameras side by side, settled after the side effect.

A lane exists while its camera has something to deliver. A camera whose peer's side is slow (a PLC that does
not acknowledge) holds up nobody else, until so much is held that reading waits (MOST_HELD). What the peer
refuses, and what makes the sink raise a bug five times, becomes a dead letter.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable

from redis.exceptions import RedisError

from ..backoff import delay_s
from ..consumer import Consumer, Held
from ..events import Event, utc_seconds
from ..heed import heed_cancellation
from ..publisher import explain
from .progress import Progress
from .report import Report, verdict_late_s
from .sink import BridgeOptions, PeerAway, Rejected, Sink

log = logging.getLogger(__name__)

MOST_HELD = 1024
LONGEST_WAIT_S = 5.0
MOST_BUGS = 5
# A peer that was away for an hour makes thousands of verdicts late: each is counted, one a second is named.
LATE_SAID_EVERY_S = 1.0


class Lanes:
    """`run` is one task, until cancelled. `report` is changed as things happen; `name` is the
    bridge's, for the log.
    """

    def __init__(
        self,
        consumer: Consumer,
        sink: Sink,
        options: BridgeOptions,
        *,
        progress: Progress,
        report: Report,
        name: str,
        verdict_within_ms: float,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._consumer, self._sink, self._options = consumer, sink, options
        self._progress, self._report = progress, report
        self._name, self._within_ms = name, verdict_within_ms
        self._now_s = now_s
        self._lanes: dict[str, deque[Held]] = {}
        # Events that are out and not settled yet: at most one a camera.
        self._measured: set[str] = set()
        self._late_said_s, self._late_since = float("-inf"), 0

    async def run(self) -> None:
        """Raises redis' AuthenticationError or NoPermissionError when the broker refuses us at the start."""
        async with asyncio.TaskGroup() as group:
            async for held in self._consumer.held(MOST_HELD):
                camera = held.event.camera
                self._report.held += 1
                self._report.lost = self._consumer.counts.lost
                if camera in self._lanes:
                    self._lanes[camera].append(held)
                else:
                    self._lanes[camera] = deque([held])
                    group.create_task(self._work(camera), name=f"lane-{camera}")

    async def _work(self, camera: str) -> None:
        lane = self._lanes[camera]
        while lane:
            await self._finish(lane[0])
            lane.popleft()
            self._report.held -= 1
            heed_cancellation()
        del self._lanes[camera]

    async def _finish(self, held: Held) -> None:
        event = held.event
        if not self._options.wants(event):
            await self._consumer.settle(held)
        elif self._progress.is_old(event):
            self._report.repeated += 1
            await self._consumer.settle(held)
        elif (why := await self._deliver(event)) is None:
            self._delivered(event)
            await self._consumer.settle(held)
        else:
            await self._bury(held, why)

    async def _deliver(self, event: Event) -> str | None:
        """Until the event is out (None), or why it never will be."""
        failures = bugs = 0
        while True:
            at_least_s = 0.0
            try:
                await self._sink.deliver(event)
                self._report.trouble = None
                return None
            except PeerAway as away:
                self._failed(str(away))
                at_least_s = away.retry_after_s
            except Rejected as rejected:
                return str(rejected)
            except Exception as bug:  # a sink may be anybody's: its bug costs one event
                bugs += 1
                self._failed(f"the bridge has a bug: {type(bug).__name__}")
                log.exception(
                    "bridge %s: event %s can't be delivered (%d of %d)", self._name, event.id, bugs, MOST_BUGS
                )
                if bugs == MOST_BUGS:
                    return f"the bridge failed {bugs} times with {type(bug).__name__}"
            failures += 1
            await asyncio.sleep(max(at_least_s, delay_s(failures, LONGEST_WAIT_S, random.random())))

    def _failed(self, text: str) -> None:
        self._report.failed += 1
        if text != self._report.trouble:
            log.warning("bridge %s: events wait: %s", self._name, text)
        self._report.trouble = text

    def _delivered(self, event: Event) -> None:
        self.out(event)
        self._measured.discard(event.id)
        self._report.delivered += 1
        self._progress.passed(event)

    def out(self, event: Event) -> None:
        """The peer can see it now. The first word counts; a sink that says nothing is out when it returns."""
        if event.id in self._measured:
            return
        self._measured.add(event.id)
        now_s = self._now_s()
        self._report.took(now_s - utc_seconds(event.captured_at))
        late_s = verdict_late_s(event, now_s, self._within_ms)
        if late_s > 0:
            self._report.late += 1
            self._say_late(event, late_s, now_s)

    def _say_late(self, event: Event, late_s: float, now_s: float) -> None:
        self._late_since += 1
        if 0 <= now_s - self._late_said_s < LATE_SAID_EVERY_S:
            return
        log.error(
            "bridge %s: the verdict on part %s of camera %s was out %.0f ms too late%s",
            self._name,
            event.part_id,
            event.camera,
            late_s * 1000,
            f", and {self._late_since - 1} others since the last such line" if self._late_since > 1 else "",
        )
        self._late_said_s, self._late_since = now_s, 0

    async def _bury(self, held: Held, why: str) -> None:
        failures = 0
        while True:
            try:
                await self._consumer.reject(held, why)
                self._report.dead += 1
                if failures:
                    self._report.trouble = None
                self._measured.discard(held.event.id)
                self._progress.passed(held.event)
                return
            except (RedisError, OSError) as error:
                failures += 1
                self._failed(f"what the peer refuses can't be made a dead letter: {explain(error)}")
                await asyncio.sleep(delay_s(failures, LONGEST_WAIT_S, random.random()))
