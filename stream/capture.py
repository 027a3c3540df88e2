"""Good pictures from a camera that is not part of a running line: `linewatch capture`."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from .camera import Camera, CameraPolicy
from .collection import Captured, Collection
from .condition import CameraState
from .sources.base import Source


class CaptureError(Exception):
    """No pictures can be had from this camera; the text is one sentence for a person."""

    user_message = True


class Capture:
    """Collects `frames` good pictures of one camera into `folder` (CAMERA/good). Use from one event loop."""

    def __init__(
        self,
        name: str,
        make_source: Callable[[], Source],
        folder: Path,
        *,
        frames: int,
        every_s: float = 0.5,
        patience_s: float = 60.0,
        on_progress: Callable[[Captured], None] = lambda captured: None,
        on_state: Callable[[CameraState], None] = lambda state: None,
    ) -> None:
        """Gives up when nothing new was kept for `patience_s` after its turn, and at once when the camera
        refuses.
        """
        self._collection = Collection(
            folder,
            frames=frames,
            every_s=every_s,
            patience_s=every_s + patience_s,
            on_progress=self._progress,
        )
        self._patience_s = patience_s
        self._on_progress = on_progress
        self._tell_state = on_state
        self._refused: CameraState | None = None
        self._is_over = False
        # Twice the pace: enough to choose from, and no more is converted than is looked at.
        policy = CameraPolicy(fps=max(2.0, 2 / every_s) if every_s else None, frozen_after_s=None)
        self._camera = Camera(
            name, make_source, offer=self._collection.offer, policy=policy, on_state=self._on_state
        )

    async def run(self) -> Captured:
        """Until all are written, the recording is over, or patience ends. Raises CaptureError, OSError."""
        self._collection.open()
        await self._camera.start()
        over = asyncio.create_task(self._camera.finished())
        over.add_done_callback(lambda _: self._collection.stop())
        try:
            await self._collection.run()
        finally:
            self._is_over = over.done()
            over.cancel()
            await self._camera.stop()
        if not self._captured().written:
            raise CaptureError(self._why_nothing())
        return self._captured()

    @property
    def state(self) -> CameraState:
        """The camera's; the refusal where that ended the capture."""
        return self._camera.state if self._refused is None else self._refused

    def _captured(self) -> Captured:
        captured = self._collection.captured
        skipped = Counter(captured.skipped)
        skipped.update(self._camera.stats().skipped)
        return Captured(captured.written, dict(sorted(skipped.items())))

    def _progress(self, captured: Captured) -> None:
        self._on_progress(self._captured())

    def _why_nothing(self) -> str:
        state, skipped = self.state, self._captured().skipped
        if skipped:
            counts = ", ".join(f"{count} {why}" for why, count in skipped.items())
            return f"{state.camera}: no picture was good enough to keep ({counts})"
        within = "" if self._refused or self._is_over else f" within {self._patience_s:g} s"
        return f"{state.camera}: no picture came{within}; it is {state.words}"

    def _on_state(self, state: CameraState) -> None:
        self._tell_state(state)
        if state.state == "refused":
            self._refused = state
            self._collection.stop()
