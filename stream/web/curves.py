"""The scores around a kept picture, written beside it once they are all there: the ring forgets."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from ..endings import end
from ..evidence import Evidence, Item
from .scores import Scores
from .tuning import CurveOut, curve_out

log = logging.getLogger(__name__)

BEFORE_S, AFTER_S = 20.0, 20.0
_LOOK_EVERY_S = 2.0
_LONGEST_WAIT_S = 2 * AFTER_S
_STOP_WITHIN_S = 2.0


class Curves:
    """One event loop; `scores` gives a camera's ring, None where there is none yet."""

    def __init__(self, evidence: Evidence, scores: Callable[[str], Scores | None]) -> None:
        self._evidence = evidence
        self._scores = scores
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._keep_writing(), name="curves")

    async def stop(self) -> None:
        """What waits is written with what there is, as far as the disk takes it in time. Safe to call
        twice.
        """
        task, self._task = self._task, None
        if task is not None:
            await end([task])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_WITHIN_S):
                    await self._write(float("inf"))

    def around(self, item: Item) -> CurveOut | None:
        """The scores around a picture of the last hour; None when they are forgotten."""
        scores = self._scores(item.camera)
        if scores is None:
            return None
        found = curve_out(scores, item.taken_at + AFTER_S, BEFORE_S + AFTER_S)
        return found if found.at else None

    async def _keep_writing(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            await self._write(time.time())

    async def _write(self, now: float) -> None:
        """What is complete. One that was dated far ahead, by a camera's clock or by ours before it was set,
        is not waited for.
        """
        fresh = self._evidence.fresh
        for _ in range(len(fresh)):
            with contextlib.suppress(IndexError):  # the line of fresh ones was full, and moved on
                item = fresh.popleft()
                if 0.0 < item.taken_at + AFTER_S - now <= _LONGEST_WAIT_S:
                    fresh.append(item)
                elif (curve := self.around(item)) is not None:
                    await self._keep(item, curve)

    async def _keep(self, item: Item, curve: CurveOut) -> None:
        try:
            await _aside(partial(self._evidence.keep_scores, item, curve.model_dump_json().encode()))
        except OSError as error:
            log.error("the scores around a picture of camera %s could not be kept: %s", item.camera, error)


async def _aside(job: Callable[[], None]) -> None:
    """Do it in a thread that keeps nobody from the end: asyncio waits for its own, and the disk may hang."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: Exception | None) -> None:
        if done.done():
            return  # nobody waits any more
        done.set_result(None) if error is None else done.set_exception(error)

    def run() -> None:
        failed = None
        try:
            job()
        except Exception as error:  # noqa: BLE001 - handed to who waits
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, failed)

    threading.Thread(target=run, name="curves", daemon=True).start()
    await done
