"""The running line: the only place where the parts meet.

startup   delivery (outbox, broker, publisher) · page · models · engine · cameras
serve     until told to stop, or until a part died
shutdown  cameras · engine (finishes its batch) · incidents · delivery (sends what waits) · page
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable

from config.settings import CameraSettings, Settings, config_sha256
from engine.core import Frame, Inspection, ModelInfo
from engine.engine import Engine
from engine.errors import EngineError
from engine.library import Library
from engine.meter import Histogram as Measured
from engine.runner import Runner

from .camera import Camera, CameraPolicy
from .condition import CameraState
from .delivery import Delivery
from .events import Event
from .handover import Handover
from .health import HealthLimits
from .models import Models
from .outages import Outage
from .overview import Overview
from .recorder import Recorder, policy_of
from .sources import base
from .web.page import LivePage
from .web.view import CameraView, Histogram, LineStats, LineView, ModelView

log = logging.getLogger(__name__)

DRAIN_WITHIN_S = 5.0
DEVICE_ENDS_WITHIN_S = 10.0
_TICK_S = 1.0
# Inspections and bare frames that may wait for the event loop; it takes them in milliseconds.
_HANDOVER = 256
_UNPUBLISHED = 1024


class LineFailed(Exception):
    """The line can't go on; one sentence for a person."""

    user_message = True


class App:
    """One line, from its settings. `startup`, `serve`, `shutdown`: in this order, on one event loop.

    Raises OutboxError and ListenError when made for what can't be.
    """

    def __init__(self, settings: Settings) -> None:
        loop = asyncio.get_running_loop()
        self.settings = settings
        self._cameras_on = {name: camera for name, camera in settings.cameras.items() if camera.enabled}
        self._overview = Overview()
        self._started = False
        self._unpublished: deque[tuple[str, float]] = deque(maxlen=_UNPUBLISHED)
        self._inspections: Handover[Inspection] = Handover(loop, self._inspected, _HANDOVER)
        self._bare: Handover[Frame] = Handover(loop, self._show_bare, len(self._cameras_on) or 1)
        self._troubles: Handover[EngineError] = Handover(loop, self._engine_troubled, 16)
        web = settings.web
        self.page = LivePage(
            LineView(
                settings.site,
                settings.line,
                cameras=self._camera_views,
                stats=self._stats,
                incidents=self._overview.incidents,
                not_ready=self._not_ready,
                started=lambda: self._started,
            ),
            listen=web.listen,
            users_file=web.users_file,
        )
        self.delivery = Delivery(settings, self._delivered)
        self._recorder = Recorder(
            self.delivery.outbox,
            site=settings.site,
            line=settings.line,
            config_sha256=config_sha256(settings),
            on_recorded=self._recorded,
        )
        self._library = Library()
        self._models = Models(self._library, settings.models.dir, self._cameras_on, self._model_changed)
        self._engine: Engine | None = None
        self._runner: Runner | None = None
        self._cameras: dict[str, Camera] = {}
        self._tasks: list[asyncio.Task[None]] = []

    # -- life ---------------------------------------------------------------------------------------

    async def startup(self) -> None:
        """The page answers first (`/startup` says that we are on the way), cameras come last."""
        for name, camera in self._cameras_on.items():
            self._overview.add(name)
            self._recorder.watch(name, policy_of(camera))
        await self.delivery.start()
        self._recorder.start()
        await self.page.start()
        await self._models.look()
        await self._start_engine()
        self._cameras = {name: self._camera(name, camera) for name, camera in self._cameras_on.items()}
        for camera_ in self._cameras.values():
            await camera_.start()
        self._tasks = [
            asyncio.create_task(self._keep_ticking(), name="ticks"),
            asyncio.create_task(self._models.keep_looking(), name="models"),
        ]
        self.delivery.announce()
        self._started = True

    async def serve(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Raises LineFailed when a part died that the line can't be without."""
        stopping = asyncio.create_task(stop.wait(), name="stopping")
        try:
            await asyncio.wait([stopping, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in self._tasks:
                if task.done():
                    task.result()
        finally:
            stopping.cancel()

    async def shutdown(self) -> None:
        """Nothing that was decided is lost, and nothing is left running. Also after a startup that failed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(camera.stop() for camera in self._cameras.values()))
        if self._engine is not None and not await asyncio.to_thread(self._engine.stop, DEVICE_ENDS_WITHIN_S):
            log.error("the device did not finish its batch within %g s", DEVICE_ENDS_WITHIN_S)
        self._inspections.flush()
        if self._started:
            self._recorder.stop()
        await self.delivery.stop(DRAIN_WITHIN_S)
        await self.page.stop()

    async def _start_engine(self) -> None:
        """Models are on the device and warm when this returns. Raises EngineError."""
        wish = self.settings.engine
        runner = await asyncio.to_thread(Runner, self._library, wish.device)
        await asyncio.to_thread(runner.warm_up, wish.max_batch)
        engine = Engine(
            runner,
            max_batch=wish.max_batch,
            max_wait_ms=wish.max_wait_ms,
            deadline_ms=wish.deadline_ms,
            line_frames=wish.every_max_waiting,
            on_inspections=self._hand_over,
            on_error=self._troubles.put,
        )
        for name, camera in self._cameras_on.items():
            engine.set_mode(name, camera.frames)
        engine.start()
        self._runner, self._engine = runner, engine

    def _camera(self, name: str, settings: CameraSettings) -> Camera:
        return Camera(
            name,
            lambda: base.build(name, settings.source),
            offer=self._offer,
            policy=camera_policy(settings),
            on_state=self._camera_changed,
            on_outage=self._outage,
        )

    # -- frames: the cameras' threads and the device thread -----------------------------------------

    def _offer(self, frame: Frame) -> None:
        assert self._engine is not None
        if not self._engine.offer(frame) and self._library.get(frame.camera) is None:
            self._bare.put(frame)

    def _hand_over(self, inspections: list[Inspection]) -> None:
        for inspection in inspections:
            self._inspections.put(inspection)

    # -- what happened: the event loop --------------------------------------------------------------

    def _inspected(self, inspections: Iterable[Inspection]) -> None:
        for inspection in inspections:
            self._overview.inspected(inspection)
            self.page.show(inspection)
            for event in self._recorder.observe(inspection):
                self._unpublished.append((event.camera, inspection.frame.tick))

    def _show_bare(self, frames: Iterable[Frame]) -> None:
        for frame in frames:
            self.page.show(frame)

    def _recorded(self, events: list[Event]) -> None:
        self._overview.recorded(events)
        self.delivery.wake()
        self.page.incidents_changed()

    def _delivered(self) -> None:
        """The broker has something. Once nothing waits, everything recorded before has arrived."""
        if self.delivery.outbox.pending:
            return
        now = time.monotonic()
        for camera, tick in self._unpublished:
            self._overview.published(camera, now - tick)
        self._unpublished.clear()

    def _camera_changed(self, state: CameraState) -> None:
        log.info("camera %s is %s: %s", state.camera, state.state, state.reason)
        self._overview.state(state)
        self.page.camera_changed()

    def _outage(self, outage: Outage) -> None:
        if outage.kind == "camera.down":
            self._recorder.camera_down(outage.camera, outage.reason)
        else:
            self._recorder.camera_up(outage.camera)

    def _model_changed(self, camera: str, info: ModelInfo) -> None:
        log.info("camera %s is inspected with %s@%d", camera, info.name, info.version)
        self._overview.model(camera, ModelView(info.name, info.version, info.threshold))
        self.page.camera_changed()

    def _engine_troubled(self, errors: Iterable[EngineError]) -> None:
        for error in errors:
            log.error("%s", error)
            self._recorder.system("device_error", str(error), severity="critical")

    async def _keep_ticking(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._recorder.tick()
            engine = self._engine
            if engine is not None and engine.failed is not None:
                raise LineFailed(f"The device thread died: {engine.failed}") from engine.failed
            if (bug := self.delivery.died) is not None:
                raise LineFailed(f"The publisher died: {bug}") from bug

    # -- what the page asks -------------------------------------------------------------------------

    def _camera_views(self) -> list[CameraView]:
        return self._overview.cameras(self._age_s)

    def _age_s(self, name: str) -> float | None:
        camera = self._cameras.get(name)
        return camera.stats().age_s if camera else None

    def _not_ready(self) -> list[str]:
        why = []
        if not self._started:
            why.append("Models are being loaded and warmed up.")
        if (error := self.delivery.state.error) is not None:
            why.append(f"Events wait in the outbox: {error}.")
        engine = self._engine
        if engine is not None and engine.is_stuck(time.monotonic(), self.settings.engine.stuck_after_s):
            why.append(f"The device has not answered for {self.settings.engine.stuck_after_s:g} s.")
        return why

    def _stats(self) -> LineStats:
        outbox = self.delivery.outbox
        snapshot = self._engine.meter.snapshot() if self._engine else None
        frames = dict(snapshot.frames) if snapshot else {}
        reconnects: dict[tuple[str, str], int] = {}
        for name, camera in self._cameras.items():
            stats = camera.stats()
            frames[name, "received"] = stats.received
            frames[name, "decimated"] = stats.decimated
            frames[name, "skipped"] = sum(stats.skipped.values())
            reconnects |= {(name, why): count for why, count in stats.reconnects.items()}
        return LineStats(
            frames=frames,
            reconnects=reconnects,
            stage_seconds={k: _histogram(v) for k, v in snapshot.stages.items()} if snapshot else {},
            capture_to_event_seconds=self._overview.capture_to_event(),
            batch_size=_histogram(snapshot.batch_sizes) if snapshot else None,
            queue_depth={"engine": self._engine.waiting if self._engine else 0},
            events=dict(self._overview.phases),
            outbox_pending=outbox.pending,
            outbox_oldest_s=outbox.oldest_s(time.time()),
            outbox_dropped=sum(outbox.dropped().values()),
        )


def _histogram(measured: Measured) -> Histogram:
    return Histogram(measured.bounds, measured.counts, measured.total)


def camera_policy(camera: CameraSettings) -> CameraPolicy:
    """The config file's words in those of camera.py."""
    health = camera.health
    return CameraPolicy(
        fps=camera.fps,
        down_after_s=camera.down_after_s,
        frozen_after_s=health.frozen_after_s,
        limits=HealthLimits(
            dark_below=health.dark_below,
            bright_above=health.bright_above,
            blur_below=health.blur_below,
            moved_above_px=health.moved_above_px,
            rate_below_share=health.rate_below_share,
            clock_drift_above_s=health.clock_drift_above_s,
            min_duration_s=health.min_duration_s,
        ),
    )
