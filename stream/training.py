"""Training beside the running line: `linewatch train` as a child that gets what the line leaves.

One at a time. Its state is ours and not a page's, so it survives a reload. It ends with the line: what it had
reached is kept by the trainer, and the same training started again goes on from there.
"""

import asyncio
import contextlib
import json
import logging
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from .console import linewatch
from .launch import behind_us
from .web.errors import Refused

log = logging.getLogger(__name__)

Phase = Literal["preparing", "learning", "finishing", "done", "failed", "cancelled"]
AT_WORK: tuple[Phase, ...] = ("preparing", "learning", "finishing")
MAX_S = 24 * 3600.0
_GRACE_S = 5.0
_NOTES = 20
_LINE_BYTES = 1 << 20
_RATE_WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class TrainingState:
    """The training at hand, or the last one. `reason` is one sentence when it failed; times are UTC seconds.

    `notes` are sentences for the person, most of them the trainer's own: what it skipped, what looks wrong.
    """

    camera: str
    model: str
    phase: Phase
    began_at: float
    step: int = 0
    steps: int = 0
    left_s: float | None = None
    ended_at: float | None = None
    version: int | None = None
    good_pictures: int | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def at_work(self) -> bool:
        return self.phase in AT_WORK


class Pace:
    """How long the rest takes, by the steps of the last minute (pure; `now` in seconds of a steady clock)."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=600)

    def left_s(self, step: int, steps: int, now: float) -> float | None:
        """None until two steps were seen."""
        self._seen.append((now, step))
        while len(self._seen) > 2 and now - self._seen[0][0] > _RATE_WINDOW_S:
            self._seen.popleft()
        (began, first), (_, last) = self._seen[0], self._seen[-1]
        if last <= first or now <= began:
            return None
        return (steps - step) * (now - began) / (last - first)


class Training:
    """Event loop only. `on_change` is called when `state` is another, at most about once a second."""

    def __init__(self, on_change: Callable[[], None], *, max_s: float = MAX_S) -> None:
        self.state: TrainingState | None = None
        self._on_change = on_change
        self._max_s = max_s
        self._task: asyncio.Task[None] | None = None
        self.process: asyncio.subprocess.Process | None = None
        self._pace = Pace()
        self._ending: Phase = "failed"
        self._why = ""
        self._given: tuple[str, ...] = ()

    def start(self, camera: str, model: str, words: Sequence[str], notes: tuple[str, ...] = ()) -> None:
        """Begin `linewatch train MODEL WORDS…` for a camera; `notes` come before the trainer's own. Raises
        Refused while another is at work.
        """
        if self.state is not None and self.state.at_work:
            raise Refused(
                f"Camera {self.state.camera} is being trained: wait until that is done, or cancel it."
            )
        self.state = TrainingState(camera, model, "preparing", time.time(), notes=notes)
        self._given = notes
        self._pace, self._ending, self._why = Pace(), "failed", ""
        line = [*linewatch(), "train", model, *words, "--no-promote", "--progress", "--json"]
        self._task = asyncio.create_task(self._drive(line), name="training")
        self._on_change()

    async def cancel(self) -> None:
        """End it now; what it had reached is kept. Raises Refused when none is at work."""
        if self.state is None or not self.state.at_work:
            raise Refused("No training is at work.")
        await self._end("cancelled", "")

    async def stop(self) -> None:
        """The line ends. Safe to call twice, and without a training."""
        await self._end("cancelled", "The line was stopped.")

    async def _end(self, phase: Phase, why: str) -> None:
        self._ending, self._why = phase, why
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if self.state is not None and self.state.at_work:  # it was ended before it had begun
                self._finish(phase, why)

    async def _drive(self, line: Sequence[str]) -> None:
        assert self.state is not None
        log.info("training of %s for camera %s begins", self.state.model, self.state.camera)
        try:
            async with asyncio.timeout(self._max_s):
                await self._run(line)
        except TimeoutError:
            self._finish("failed", f"It was ended after {self._max_s / 3600:g} hours.")
        except asyncio.CancelledError:
            self._finish(self._ending, self._why)
            raise
        except OSError as error:
            self._finish("failed", f"The training can't be started: {error.strerror}.")

    async def _run(self, line: Sequence[str]) -> None:
        self.process = process = await asyncio.create_subprocess_exec(
            *behind_us(line),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            limit=_LINE_BYTES,
            start_new_session=True,
        )
        assert process.stdout is not None and process.stderr is not None
        try:
            await asyncio.gather(self._read(process.stdout), self._listen(process.stderr))
            self._judge(await process.wait())
        finally:
            for last in (await _ended(process)).splitlines():
                self._hear(last)

    async def _read(self, stdout: asyncio.StreamReader) -> None:
        async for line in _lines(stdout):
            self._hear(line)

    def _hear(self, line: bytes) -> None:
        with contextlib.suppress(ValueError, KeyError, TypeError):  # a line of somebody else's
            said = json.loads(line)
            if isinstance(said, dict):
                self._told(said)

    async def _listen(self, stderr: asyncio.StreamReader) -> None:
        async for line in _lines(stderr):
            if said := line.decode(errors="replace").strip():
                log.info("training: %s", said)
                assert self.state is not None
                self._change(notes=(*self.state.notes, said[:500])[-_NOTES:])

    def _told(self, said: dict[str, Any]) -> None:
        if progress := said.get("progress"):
            step, steps = int(progress["step"]), int(progress["steps"])
            left_s = self._pace.left_s(step, steps, time.monotonic())
            phase: Phase = "finishing" if step >= steps else "learning"
            self._change(phase=phase, step=step, steps=steps, left_s=left_s)
        elif "version" in said:
            self._change(version=int(said["version"]), good_pictures=int(said["good_pictures"]))

    def _judge(self, code: int) -> None:
        assert self.state is not None
        if code == 0 and self.state.version is not None:
            return self._finish("done", "")
        if code < 0:
            return self._finish("failed", f"The system ended it (signal {-code}): it may lack memory.")
        last = self.state.notes[-1:]
        said = last and last != self._given[-1:]
        self._finish("failed", last[0] if said else f"It ended with code {code}.")

    def _finish(self, phase: Phase, reason: str) -> None:
        assert self.state is not None
        if self.state.version is not None:  # it was saved before it was ended
            phase, reason = "done", ""
        self._change(phase=phase, reason=reason, left_s=None, ended_at=time.time())
        level = logging.WARNING if phase == "failed" else logging.INFO
        log.log(level, "training of %s is %s%s", self.state.model, phase, f": {reason}" if reason else "")

    def _change(self, **changes: Any) -> None:
        assert self.state is not None
        self.state = replace(self.state, **changes)
        self._on_change()


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Without those that are longer than _LINE_BYTES: a library's noise must not end the training."""
    while True:
        try:
            line = await stream.readline()
        except ValueError:
            continue  # what was read of it is thrown away
        if not line:
            return
        yield line


async def _ended(process: asyncio.subprocess.Process) -> bytes:
    """SIGTERM, a grace, SIGKILL, a grace; what it still says is read, or it might wait for a reader for ever.
    Returns what of that went to stdout. A disk that hangs may keep it in the kernel, and keeps nobody else.
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    try:
        said, _ = await asyncio.wait_for(process.communicate(), _GRACE_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        try:
            said, _ = await asyncio.wait_for(process.communicate(), _GRACE_S)
        except TimeoutError:
            log.error("the training (process %d) does not end; a disk may hang", process.pid)
            return b""
    return said
