"""The cameras that run, and what they say: each is added, removed or retuned without touching the others.

    add       known to everybody → a model, if there is one → connect
    retune    limits, zones and hysteresis at once; reconnects only for another source
    remove    disconnect → its last frames → its parts are answered, its incidents closed → forgotten

Event loop only.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from config.changes import Changes
from config.settings import CameraSettings
from engine.core import Frame
from engine.engine import Engine
from engine.errors import EngineError

from .camera import Camera, CameraPolicy
from .condition import CameraState
from .endings import end
from .gateway import Gateway
from .models import Models
from .outages import HealthChange, Outage
from .overview import Overview
from .recorder import Recorder, policy_of
from .sources import base
from .view import trained_view
from .web.page import LivePage

log = logging.getLogger(__name__)


def hysteresis_of(camera: CameraSettings) -> tuple[int, int]:
    """(on_frames, off_frames): after how many pictures in a row the answer of a camera changes."""
    # A part is one picture and one answer, whatever the part before it was.
    return (1, 1) if camera.frames == "every" else (camera.detect.on_frames, camera.detect.off_frames)


class Lineup:
    """`wanted` are the settings of the cameras that shall run, `running` the cameras once `start`ed;
    `hysteresis` is (on_frames, off_frames) by camera. `offer` is called in the cameras' threads.
    """

    def __init__(
        self,
        wanted: dict[str, CameraSettings],
        pictures: Path,
        *,
        offer: Callable[[Frame], None],
        overview: Overview,
        recorder: Recorder,
        models: Models,
        gateway: Gateway,
    ) -> None:
        self.wanted = wanted
        self.running: dict[str, Camera] = {}
        self.hysteresis: dict[str, tuple[int, int]] = {}
        self._pictures = pictures
        self._offer = offer
        self._overview, self._recorder = overview, recorder
        self._models, self._gateway = models, gateway
        self._page: LivePage | None = None
        self._engine: Engine | None = None
        # Cameras whose good pictures are still to be looked at, in this order.
        self._unviewed: dict[str, None] = {}
        self._to_view = asyncio.Event()
        self._viewing: list[asyncio.Task[None]] = []
        for name, camera in wanted.items():
            self._introduce(name, camera)

    def shown_on(self, page: LivePage) -> None:
        """`page` is told of every change from now on."""
        self._page = page

    async def start(self, engine: Engine) -> None:
        """Connect all, once their models are warm."""
        self._engine = engine
        self._viewing.append(asyncio.create_task(self._keep_viewing(), name="views"))
        # Before the first wait: pictures that come with triggers are offered from then on.
        for name, camera in self.wanted.items():
            engine.set_mode(name, camera.frames)
        for name, camera in self.wanted.items():
            await self._connect(name, camera)

    async def stop(self) -> None:
        """Disconnect all. A camera whose supervision died keeps nobody from their end."""
        stopped = (camera.stop() for camera in self.running.values())
        await asyncio.gather(*stopped, end(self._viewing), return_exceptions=True)

    def check(self, changes: Changes) -> dict[str, str]:
        """Camera → why its new settings can't be carried out. Slow: for a thread."""
        wrong = {}
        for name in changes.changed:
            try:
                self._models.check(name, changes.after.cameras[name])
            except EngineError as error:
                wrong[name] = str(error)
        return wrong

    async def change(self, changes: Changes) -> None:
        """Carry out what `check` found possible."""
        after = changes.after
        await asyncio.gather(*(self._disconnect(name) for name in changes.removed))
        self._gateway.configure(after)
        for name in changes.removed:
            self._forget(name, "camera disabled" if name in after.cameras else "camera removed")
        for name in changes.removed:
            await self._unload(name)
        for name in changes.changed:
            await self._retune(name, changes.before.cameras[name], after.cameras[name])
        for name in changes.added:
            await self._add(name, after.cameras[name])
        self._overview.arrange(list(after.cameras))
        self._tell_page()

    def is_frozen(self, name: str) -> bool:
        """Whether this camera sends one picture over and over."""
        return name in self.running and self.running[name].state.state == "frozen"

    def age_s(self, name: str) -> float | None:
        """Age of a camera's last new picture."""
        camera = self.running.get(name)
        return camera.stats().age_s if camera else None

    def reconnects(self) -> int:
        """How often the cameras that run lost their connection since the start."""
        return sum(sum(camera.stats().reconnects.values()) for camera in self.running.values())

    def died(self) -> Iterable[tuple[str, BaseException]]:
        """Cameras whose supervision died of a bug. Raises the bug that ended the taking of views."""
        for task in self._viewing:
            if task.done():
                task.result()
        return [(name, bug) for name, camera in self.running.items() if (bug := camera.died) is not None]

    async def take_view(self, name: str) -> None:
        """What the camera saw in its good pictures: blurred and moved are told against it, as soon as that is
        known. To read them takes half a second, and their disk may hang: nobody waits for that.
        """
        self._unviewed[name] = None
        self._to_view.set()

    async def _keep_viewing(self) -> None:
        while True:
            await self._to_view.wait()
            self._to_view.clear()
            while self._unviewed:
                del self._unviewed[name := next(iter(self._unviewed))]
                view = await asyncio.to_thread(trained_view, self._pictures / name / "good")
                if name in self.running:
                    self.running[name].set_view(view)

    # -- one camera ---------------------------------------------------------------------------------

    def _introduce(self, name: str, settings: CameraSettings) -> None:
        self._overview.add(name)
        self._recorder.watch(name, policy_of(settings))
        self.hysteresis[name] = hysteresis_of(settings)

    async def _connect(self, name: str, settings: CameraSettings) -> None:
        assert self._engine is not None
        self._engine.set_mode(name, settings.frames)
        self.running[name] = camera = Camera(
            name,
            partial(base.build, name, settings.source),
            offer=self._offer,
            policy=CameraPolicy.of(settings),
            on_state=self._state_changed,
            on_outage=self._outage,
            on_health=self._health,
        )
        await self.take_view(name)
        await camera.start()

    async def _add(self, name: str, settings: CameraSettings) -> None:
        self.wanted[name] = settings
        self._introduce(name, settings)
        self._tell_page()
        await self._models.watch(name, settings)
        await self._connect(name, settings)

    async def _retune(self, name: str, before: CameraSettings, after: CameraSettings) -> None:
        assert self._engine is not None
        self.wanted[name] = after
        self.hysteresis[name] = hysteresis_of(after)
        self._recorder.watch(name, policy_of(after))
        self._engine.set_mode(name, after.frames)
        self.running[name].retune(CameraPolicy.of(after))
        if before.model.ref != after.model.ref:
            self._recorder.drafts.recipes.pop(name, None)  # a recipe holds until another model is asked for
        if before.source != after.source:
            self.running[name].reconnect(partial(base.build, name, after.source))
        await self._models.watch(name, after)

    async def _disconnect(self, name: str) -> None:
        await self.running[name].stop()

    def _forget(self, name: str, reason: str) -> None:
        """Without a wait, so that nobody who asks meanwhile sees half a camera."""
        del self.running[name], self.wanted[name], self.hysteresis[name]
        self._overview.remove(name)
        self._recorder.forget(name, reason)
        self._recorder.drafts.recipes.pop(name, None)
        if self._page is not None:
            self._page.forget(name)

    async def _unload(self, name: str) -> None:
        assert self._engine is not None
        await self._models.forget(name)
        self._engine.remove(name)
        self._engine.meter.forget(name)

    # -- what a camera says -------------------------------------------------------------------------

    def _state_changed(self, state: CameraState) -> None:
        level = logging.INFO if state.state in ("connecting", "live") else logging.WARNING
        log.log(level, "camera %s is %s", state.camera, state.words)
        self._overview.state(state)
        self._gateway.camera_changed(state)
        self._tell_page()

    def _outage(self, outage: Outage) -> None:
        if outage.kind == "camera.down":
            self._recorder.camera_down(outage.camera, outage.reason)
        else:
            self._recorder.camera_up(outage.camera)

    def _health(self, change: HealthChange) -> None:
        kind, text = change.finding.kind, change.finding.text
        if change.began:
            log.warning("camera %s: %s", change.camera, text)
            self._recorder.finding(change.camera, kind, text, {"count": change.count})
        else:
            self._recorder.finding_over(change.camera, kind)

    def _tell_page(self) -> None:
        if self._page is not None:
            self._page.camera_changed()
