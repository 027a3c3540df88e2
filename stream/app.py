"""The running line: the only place where the parts meet.

startup   evidence · delivery (outbox, broker, publisher) · page · models · engine · cameras · bridges
serve     until told to stop, or until a part died; the config file may change meanwhile
shutdown  cameras · engine (finishes its batch) · incidents · bridges · delivery (sends what waits) · page
          evidence
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from config.changes import Changes, enabled
from config.settings import Settings, config_sha256
from engine.core import Frame, Inspection, ModelInfo
from engine.engine import Engine
from engine.errors import EngineError
from engine.library import Library
from engine.runner import Runner

from . import heap
from .bridges.children import BridgeProcesses
from .delivery import Delivery
from .device import make_runner, warm_runner
from .drawing import Drawing
from .drift import Drift
from .endings import end
from .events import Event
from .evidence import Evidence
from .gateway import Gateway
from .handover import Handover
from .lag import GroupLag
from .lineup import Lineup
from .live import LiveConfig
from .models import Models
from .overview import Overview
from .recorder import Recorder
from .snapshot import line_stats
from .sources.desk import DESK
from .status import StatusBoard
from .teaching import Teaching
from .vitals import Vitals
from .web import config as config_routes
from .web import whip
from .web.page import LivePage
from .web.rtc import RtcOptions
from .web.view import CameraView, LineActions, LineStats, LineView, ModelView

log = logging.getLogger(__name__)

DRAIN_WITHIN_S = 5.0
DEVICE_ENDS_WITHIN_S = 10.0
_TICK_S = 1.0
# Inspections of each `latest` camera that may wait for the event loop, which takes them in milliseconds.
_HANDED_OVER_EACH = 4
_UNPUBLISHED = 1024


class LineFailed(Exception):
    """The line can't go on; one sentence for a person."""

    user_message = True


class App:
    """One line, from its settings. `startup`, `serve`, `shutdown`: in this order, on one event loop.

    `before_change(in_force, file)` is called before anything of an edited config file is used. Raises
    OutboxError and ListenError when made for what can't be.
    """

    def __init__(
        self, settings: Settings, before_change: Callable[[Settings, Settings], None] = lambda old, new: None
    ) -> None:
        loop = asyncio.get_running_loop()
        self.settings = settings
        wanted = enabled(settings)
        self._overview = Overview()
        self._unpublished: deque[tuple[str, float]] = deque(maxlen=_UNPUBLISHED)
        self._inspections: Handover[Inspection] = Handover(
            loop, self._inspected, _handed_over(settings), self._overrun
        )
        self._bare: Handover[Frame] = Handover(loop, self._show_bare, len(wanted) or 1)
        self._troubles: Handover[EngineError] = Handover(loop, self._engine_troubled, 16)
        self._evidence = Evidence(
            settings.evidence.dir,
            max_mb=settings.evidence.max_mb,
            max_age_days=settings.evidence.max_age_days,
        )
        self.delivery = Delivery(settings, self._delivered, self._group_behind)
        self._recorder = Recorder(
            self.delivery.outbox,
            site=settings.site,
            line=settings.line,
            config_sha256=config_sha256(settings),
            on_recorded=self._recorded,
            evidence=self._evidence.keep,
        )
        self._library = Library()
        self._drift = Drift(self._calibrated)
        self._models = Models(self._library, settings.models.dir, wanted, self._model_changed)
        self._gateway = Gateway(
            settings, self._recorder, self._library, self._models, lambda frame: self.page.show(frame)
        )
        self.lineup = Lineup(
            wanted,
            settings.pictures.dir,
            offer=self._offer,
            overview=self._overview,
            recorder=self._recorder,
            models=self._models,
            gateway=self._gateway,
        )
        self.live = LiveConfig(settings, self, self._recorder, before_change)
        self._vitals = Vitals(
            settings,
            wanted,
            recorder=self._recorder,
            delivery=self.delivery,
            gateway=self._gateway,
            overview=self._overview,
        )
        self._bridges = BridgeProcesses(settings)
        self._teaching = Teaching(lambda: self.settings, in_use=self._models.in_use)
        self.page = self._make_page()
        self.lineup.shown_on(self.page)
        self._engine: Engine | None = None
        self._board: StatusBoard | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def _make_page(self) -> LivePage:
        settings, web = self.settings, self.settings.web
        view = LineView(
            settings.site,
            settings.line,
            cameras=self._camera_views,
            stats=self._stats,
            incidents=self._overview.incidents,
            not_ready=lambda: self._vitals.not_ready(),
            started=lambda: self._vitals.started,
        )
        return LivePage(
            view,
            actions=LineActions(self._models.set_threshold, self._models.model_of),
            evidence=self._evidence,
            teaching=self._teaching,
            drawing=Drawing(lambda: self.settings, self.live.reload),
            pictures=settings.pictures.dir,
            hysteresis=self.lineup.hysteresis,
            listen=web.listen,
            users_file=web.users_file,
            insecure=web.insecure,
            session_hours=web.session_hours,
            tls=(web.tls.cert_file, web.tls.key_file) if web.tls else None,
            routers=(
                whip.build(DESK),
                config_routes.build(self.live.view, self.live.validate, self.live.reload),
            ),
            host_names=web.allowed_hosts,
            max_fps=web.mjpeg_fps,
            jpeg_quality=web.jpeg_quality,
            rtc=RtcOptions(web.webrtc.ice_servers, web.webrtc.advertise, web.webrtc.port_range),
        )

    # -- life ---------------------------------------------------------------------------------------

    async def startup(self) -> None:
        """The page answers first (`/startup` says that we are on the way), cameras come last."""
        self._evidence.start()
        await self.delivery.start()
        self._board = self._make_board()
        await self._board.cleared()
        self._recorder.start()
        await self.page.start()
        await self._models.look()
        engine = await self._start_engine()
        self._tasks = self._gateway.open(self.delivery, engine.offer)
        await self.lineup.start(engine)
        self._tasks += [
            asyncio.create_task(self.live.run(), name="config"),
            asyncio.create_task(self._keep_ticking(), name="ticks"),
            asyncio.create_task(self._models.keep_looking(), name="models"),
            asyncio.create_task(self._board.run(), name="status"),
            asyncio.create_task(self._teaching.keep_tidy(), name="housekeeping"),
            asyncio.create_task(heap.keep_trimmed(self.lineup.reconnects), name="heap"),
        ]
        self.delivery.announce()
        self._bridges.start()
        self._vitals.started = True

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
        await self._teaching.stop()  # first, as it may take seconds: parts are answered meanwhile
        await end(self._tasks)
        await self.lineup.stop()
        if self._engine is not None and not await asyncio.to_thread(self._engine.stop, DEVICE_ENDS_WITHIN_S):
            log.error("the device did not finish its batch within %g s", DEVICE_ENDS_WITHIN_S)
        self._inspections.flush()
        await self._gateway.close()
        if self._recorder.started:
            self._recorder.stop()
        if self._board is not None and not self.delivery.is_taken:
            await self._board.cleared()
        await self.delivery.drain(DRAIN_WITHIN_S)
        await self._bridges.stop()
        await self.delivery.stop(0.0)
        await self.page.stop()
        await asyncio.to_thread(self._evidence.stop)

    async def _start_engine(self) -> Engine:
        """Models are on the device and warm when this returns. Raises EngineError."""
        wish = self.settings.engine
        log.info("models are being warmed up, which may take a minute; the cameras connect after that")
        warm = asyncio.to_thread(warm_runner, self._library, self.settings, self._troubles.put)
        runner, refused = await warm
        for name, why in refused:
            self._models.refused(name, why)
        engine = Engine(
            runner,
            max_batch=min(wish.max_batch, runner.plateau or wish.max_batch),
            max_wait_ms=wish.max_wait_ms,
            deadline_ms=wish.deadline_ms,
            line_frames=wish.every_max_waiting,
            on_inspections=self._hand_over,
            on_dropped=self._gateway.dropped,
            on_error=self._troubles.put,
            fallback=self._on_cpu if wish.on_device_error == "cpu" and runner.device.type != "cpu" else None,
        )
        engine.start()
        self._engine = self._vitals.engine = engine
        return engine

    def _on_cpu(self) -> Runner:
        return make_runner(self._library, self.settings, "cpu")

    def _make_board(self) -> StatusBoard:
        endpoint, events = self.delivery.endpoint, self.settings.events
        assert endpoint is not None
        return StatusBoard(
            endpoint.client,
            self.delivery.keys,
            lambda: self._vitals.status(self._camera_views()),
            alive=self._vitals.is_alive,
            every_s=events.status_every_s,
            heartbeat_every_s=events.heartbeat_every_s,
        )

    # -- the config file was edited -----------------------------------------------------------------

    def check(self, changes: Changes) -> dict[str, str]:
        """See live.Changeable. In a thread."""
        return self.lineup.check(changes)

    async def change(self, changes: Changes) -> None:
        """See live.Changeable. On the loop."""
        self.settings = changes.after
        self._vitals.checksum = config_sha256(changes.after)
        await self.lineup.change(changes)
        for name in changes.removed:
            self._drift.forget(name)
        self._bridges.changed(changes.before, changes.after)
        self.delivery.changed(changes.after)
        self._inspections.resize(_handed_over(changes.after))
        self._bare.resize(len(self.lineup.running) or 1)

    # -- frames: the cameras' threads and the device thread -----------------------------------------

    def _offer(self, frame: Frame) -> None:
        assert self._engine is not None
        if self._gateway.holds(frame):
            return
        if self._engine.offer(frame):
            self._overview.taken(frame)
        elif self._library.get(frame.camera) is None:
            self._bare.put(frame)

    def _overrun(self, inspection: Inspection) -> None:
        if self._engine is not None:
            self._engine.meter.frame(inspection.frame.camera, "overrun")
        self._gateway.dropped(inspection.frame, "displaced")

    def _hand_over(self, inspections: list[Inspection]) -> None:
        for inspection in inspections:
            self._inspections.put(inspection)

    # -- what happened: the event loop --------------------------------------------------------------

    def _inspected(self, inspections: Iterable[Inspection]) -> None:
        for inspection in inspections:
            if inspection.frame.camera not in self.lineup.wanted:
                continue  # it was removed while this picture was on the device
            for event in self._decide(inspection):
                self._unpublished.append((event.camera, inspection.frame.tick))
            self._overview.inspected(inspection)
            self._drift.add(inspection, time.monotonic(), self._models.area_of(inspection.frame.camera))
            self.page.show(inspection)

    def _decide(self, inspection: Inspection) -> list[Event]:
        camera = inspection.frame.camera
        verdicts = self._gateway.inspected(inspection)
        # Its incidents were closed when it froze; the same picture again is no news.
        if self.lineup.is_frozen(camera):
            return verdicts
        return [*self._recorder.observe(inspection), *verdicts]

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

    def _group_behind(self, lag: GroupLag) -> None:
        reason = f"consumer group {lag.group} is {lag.behind} entries behind and will soon lose the oldest"
        log.warning("%s", reason)
        self._recorder.system("lag", reason, {"group": lag.group, "behind": lag.behind}, "major")

    async def _model_changed(self, camera: str, info: ModelInfo) -> None:
        log.info("camera %s is inspected with %s@%d", camera, info.name, info.version)
        self._overview.model(camera, ModelView.of(info, by_hand=self._models.is_by_hand(camera)))
        self.page.camera_changed()
        await self.lineup.take_view(camera)

    def _calibrated(self, camera: str) -> float | None:
        entry = self._library.get(camera)
        return None if entry is None else entry.artifact.calibration.image_median

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
                raise bug if self.delivery.is_taken else LineFailed(f"The publisher died: {bug}") from bug
            for bug in filter(None, [told.died for told in (self._inspections, self._bare, self._troubles)]):
                raise LineFailed(f"What the engine or a camera told could not be handled: {bug}") from bug
            for name, bug in self.lineup.died():
                raise LineFailed(f"The supervision of camera {name} died: {bug}") from bug

    # -- what the page asks -------------------------------------------------------------------------

    def _camera_views(self) -> list[CameraView]:
        """What a camera was inspected with is said of none whose model was taken out."""
        missing, views = self._models.missing(), self._overview.cameras(self.lineup.age_s)
        return [
            replace(view, model=None, not_inspected=missing[view.name]) if view.name in missing else view
            for view in views
        ]

    def _stats(self) -> LineStats:
        held = self._recorder.held
        stats = line_stats(
            self._engine, self.lineup.running, self._overview, self.delivery, self._gateway, held
        )
        return replace(
            stats,
            drift=self._drift.values(),
            evidence_dropped=self._evidence.dropped,
            config_ok=not self.live.view().mistakes,
        )


def _handed_over(settings: Settings) -> int:
    """Inspections that may wait for the event loop: a batch comes at once, and each part of a line counts."""
    wish = settings.engine
    each = {"every": wish.every_max_waiting, "latest": _HANDED_OVER_EACH}
    return 2 * wish.max_batch + sum(each[camera.frames] for camera in enabled(settings).values())
