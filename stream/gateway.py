"""The door for those who drive the line: triggers and commands in, by the broker.

open    what an earlier run answered is remembered · one reader for each of the two streams
close   the readers end: what waits for a picture is answered at once · after the last inspection all that
        still waits is answered, and what is recorded is acknowledged
"""

import asyncio
from collections.abc import Callable, Mapping

from config.settings import Settings
from engine.core import Frame, Inspection
from engine.library import Library

from .condition import CameraState
from .control import Control, Controls
from .delivery import Delivery
from .events import Event
from .inbox import Inbox
from .models import Models
from .parts import Parts
from .recorder import Recorder, policy_of
from .web.view import Result

_STREAMS = ("triggers", "commands")
# Verdicts of earlier runs that are looked at: more than triggers can be unacknowledged at once.
_RECALLED = 4096


class Gateway:
    """Parts and commands of one line. `holds` and `dropped` are for any thread, the rest for the loop."""

    def __init__(
        self,
        settings: Settings,
        recorder: Recorder,
        library: Library,
        models: Models,
        show: Callable[[Frame], None],
    ) -> None:
        self._recorder = recorder
        self._offer: Callable[[Frame], bool] = lambda frame: False
        self._inboxes: list[Inbox] = []
        self.parts = Parts(
            settings.cameras,
            settings.parts,
            settings.triggers,
            recorder=recorder,
            offer=lambda frame: self._offer(frame),
            has_model=lambda camera: library.get(camera) is not None,
            show=show,
            on_settled=self._settled,
        )
        self._cameras = dict(settings.cameras)
        self._running = {name for name, camera in settings.cameras.items() if camera.enabled}
        controls = Controls(models.set_threshold, models.choose, self._enable)
        self._control = Control(self._running, controls, recorder)

    def open(self, delivery: Delivery, offer: Callable[[Frame], bool]) -> list[asyncio.Task[None]]:
        """Begin to read; the tasks are the caller's to end. `offer` is the engine's."""
        assert delivery.endpoint is not None
        self._offer = offer
        self.parts.recall(delivery.outbox.newest("verdicts", _RECALLED))
        client, keys = delivery.endpoint.client, delivery.keys
        self._inboxes = [
            Inbox(client, keys.triggers, keys.dead, self.parts.take, self._may_acknowledge),
            Inbox(client, keys.commands, keys.dead, self._control.take, self._may_acknowledge),
        ]
        triggers, commands = self._inboxes
        return [
            asyncio.create_task(self._answer(), name="parts"),
            asyncio.create_task(triggers.run(), name="triggers"),
            asyncio.create_task(commands.run(), name="commands"),
        ]

    async def _answer(self) -> None:
        """Cameras and device may take seconds to end: nobody waits so long for a picture in vain."""
        try:
            await self.parts.run()
        except asyncio.CancelledError:
            self.parts.end(with_picture=False)
            raise

    async def close(self) -> None:
        """Call it when nothing is inspected any more and the readers have ended; then stop the recorder."""
        self.parts.end()
        await asyncio.gather(*(inbox.finish() for inbox in self._inboxes))

    def configure(self, settings: Settings) -> None:
        """The config file was edited; cameras that are removed have been stopped."""
        self.parts.retune(settings.parts, settings.triggers)
        for name in self._cameras.keys() - settings.cameras.keys():
            self.parts.forget(name)
        for name, camera in settings.cameras.items():
            self.parts.watch(name, camera)
        self._cameras = dict(settings.cameras)
        self._running.clear()
        self._running |= {name for name, camera in settings.cameras.items() if camera.enabled}

    def holds(self, frame: Frame) -> bool:
        """True for a picture that is not to be inspected unless a trigger asks for it. Any thread."""
        return self.parts.holds(frame)

    def dropped(self, frame: Frame, reason: str) -> None:
        """The engine's `on_dropped`. Any thread."""
        self.parts.dropped(frame, reason)

    def inspected(self, inspection: Inspection) -> list[Event]:
        """The verdict, where this inspection decides about a part."""
        return self.parts.inspected(inspection)

    def camera_changed(self, state: CameraState) -> None:
        self.parts.camera_changed(state)

    def counts(self, camera: str, of_pictures: Mapping[Result, int]) -> Mapping[Result, int]:
        """What a PLC counts: verdicts of a camera that is triggered, inspected pictures of another one."""
        verdicts = self.parts.verdicts(camera)
        return of_pictures if verdicts is None else verdicts

    def verdicts(self) -> dict[tuple[str, str], int]:
        """Since start: (camera, verdict) → parts."""
        told = {name: self.parts.verdicts(name) or {} for name in self._cameras}
        return {(name, verdict): count for name, of in told.items() for verdict, count in of.items()}

    def read(self) -> dict[tuple[str, str], int]:
        """Since start: (triggers or commands, what became of it) → entries."""
        read: dict[tuple[str, str], int] = {("triggers", "repeated"): self.parts.repeated}
        for name, inbox in zip(_STREAMS, self._inboxes, strict=False):
            counts = inbox.counts
            read |= {(name, "taken"): counts.taken, (name, "dead"): counts.dead, (name, "gone"): counts.gone}
        return read

    def can_read(self) -> dict[str, float]:
        """Of both streams: 0.0 for one that can't be read now."""
        return {of: float(box.trouble is None) for of, box in zip(_STREAMS, self._inboxes, strict=False)}

    @property
    def trouble(self) -> str | None:
        """Why triggers can't be read now, one sentence; None while they are."""
        return self._inboxes[0].trouble if self._inboxes else None

    def _settled(self, entry: str) -> None:
        self._inboxes[0].settle(entry)

    def _may_acknowledge(self) -> bool:
        return self._recorder.disk_error is None

    def _enable(self, camera: str, enabled: bool) -> None:
        if enabled == self.parts.is_enabled(camera):
            return
        self.parts.enable(camera, enabled)
        if enabled:
            self._recorder.watch(camera, policy_of(self._cameras[camera]))
        else:
            self._recorder.pause(camera, "camera disabled")
