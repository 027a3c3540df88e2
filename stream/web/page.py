"""The web room as one part: what stream/app.py makes, starts, tells, and stops.

    page = LivePage(view, listen="127.0.0.1:8080")
    await page.start()            # page.url is known now
    page.show(inspection)         # also a bare Frame of a camera without a model
    page.camera_changed()         # a camera's state is another
    page.incidents_changed()      # an incident was opened, updated or closed
    await page.stop()             # every stream ends at once

All on one event loop; none of these waits but start and stop.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType

from fastapi import APIRouter

from engine.core import Frame, Inspection

from .. import metrics
from ..drawing import Drawing
from ..evidence import Evidence, Item
from ..teaching import Teaching
from . import gallery, tuning, whep, zones
from . import teaching as teaching_routes
from .access import COOKIE, Access
from .api import known
from .app import create_app, files_mark
from .curves import Curves
from .feed import Feed
from .hub import Hub
from .rtc import RtcOptions, Whep
from .schemas import line_out
from .scores import Scores
from .server import WebServer, check_listen, is_loopback, parse_listen
from .users import Users
from .view import IncidentView, LineActions, LineView
from .viewers import Seats

INCIDENTS_ON_PAGE = 30


class LivePage:
    """See the module's head. Raises ListenError when made for, or started on, an address that can't be, and
    UsersError when the users file can't be used. `tls` is (certificate chain, key), PEM; `routers` are
    other rooms' routes.

    `evidence` fills the gallery (its owner starts and stops it); `teaching` and `drawing` are what a person
    changes from the page (their owner stops them); `pictures` is where CAMERA/good is for false alarms,
    `hysteresis` has (on_frames, off_frames) by camera for the alarm level's estimate; its owner
    may change it.
    """

    def __init__(
        self,
        view: LineView,
        *,
        actions: LineActions | None = None,
        evidence: Evidence | None = None,
        teaching: Teaching | None = None,
        drawing: Drawing | None = None,
        pictures: Path | None = None,
        hysteresis: Mapping[str, tuple[int, int]] = MappingProxyType({}),
        listen: str = "127.0.0.1:8080",
        users_file: Path | None = None,
        insecure: bool = False,
        session_hours: float = 12.0,
        tls: tuple[Path, Path] | None = None,
        host_names: tuple[str, ...] = (),
        max_viewers: int = 64,
        max_fps: float = 10.0,
        jpeg_quality: int = 80,
        rtc: RtcOptions | None = None,
        routers: tuple[APIRouter, ...] = (),
    ) -> None:
        check_listen(listen, users_file, insecure)
        host, port = parse_listen(listen)
        users = Users(users_file) if users_file is not None else None
        self._evidence, self._teaching = evidence, teaching
        self._files, self._answers = files_mark(), 0
        self._view = view = replace(view, incidents=self._answered(view.incidents))
        self._scores: dict[str, Scores] = {}
        self._seats = Seats(max_viewers)
        self._hub = Hub(view.cameras, seats=self._seats, quality=jpeg_quality, max_fps=max_fps)
        self._feed = Feed(self._message, seats=self._seats)
        ours = [tuning.build(self._scores_of, hysteresis, actions or LineActions(), self._feed.changed)]
        self._whep = Whep(self._hub, rtc or RtcOptions())
        ours.append(whep.build(self._whep, partial(known, view)))
        self._curves: Curves | None = None
        if evidence is not None:
            self._curves = Curves(evidence, self._scores.get)
            ours.append(gallery.build(evidence, pictures, self._curves, self._was_answered))
        if teaching is not None:
            teaching.on_change = self._feed.changed
            ours.append(teaching_routes.build(teaching, view))
        if drawing is not None:
            ours.append(zones.build(drawing, self._feed.changed))
        app = create_app(
            view,
            self._hub,
            self._feed,
            page_stats=self.stats,
            loopback_only=is_loopback(host),
            host_names=host_names,
            access=Access(
                users,
                session_hours=session_hours,
                secure=tls is not None,
                cookie=f"{COOKIE}-{view.site}-{view.line}",
            ),
            routers=(*ours, *routers),
        )
        self._server = WebServer(app, host, port, self._close_streams, tls)

    @property
    def url(self) -> str:
        """Where the page is; with the real port once started."""
        return self._server.url

    async def start(self) -> None:
        """Listening when it returns; raises ListenError when the port is taken."""
        await self._server.start()
        if self._curves is not None:
            self._curves.start()

    async def stop(self) -> None:
        """Ends streams, connections and threads. Safe to call twice, and without a start."""
        self._close_streams()
        if self._curves is not None:
            await self._curves.stop()
        await self._whep.stop()
        await self._server.stop()

    def show(self, picture: Inspection | Frame) -> None:
        """The newest of its camera; drawn only while somebody watches."""
        if isinstance(picture, Inspection):
            self._scores.setdefault(picture.frame.camera, Scores()).add(picture)
        if self._teaching is not None:
            self._teaching.offer(picture)
        self._hub.show(picture)

    def forget(self, camera: str) -> None:
        """A camera was removed: its scores go."""
        self._scores.pop(camera, None)
        self.camera_changed()

    def camera_changed(self) -> None:
        """Draw and tell the cameras' new states now, not in a second."""
        self._hub.camera_changed()
        self._feed.changed()

    def incidents_changed(self) -> None:
        """Tell the incidents now."""
        self._feed.changed()

    def stats(self) -> metrics.PageStats:
        """The page's own numbers."""
        counts = self._hub.counts()
        removed = self._teaching.removed if self._teaching else {}
        return metrics.PageStats(self._seats.taken, counts.drawn, counts.overtaken, counts.dropped, removed)

    def _scores_of(self, camera: str) -> Scores:
        known(self._view, camera)
        return self._scores.setdefault(camera, Scores())

    def _answered(
        self, incidents: Callable[[int], Sequence[IncidentView]]
    ) -> Callable[[int], list[IncidentView]]:
        """The line's incidents with what people said of their pictures."""

        def answered(limit: int) -> list[IncidentView]:
            found = [(incident, self._item(incident)) for incident in incidents(limit)]
            return [replace(i, feedback=item.feedback) if item else i for i, item in found]

        return answered

    def _was_answered(self) -> None:
        self._answers += 1
        self._feed.changed()

    def _item(self, incident: IncidentView) -> Item | None:
        return self._evidence.of_image(incident.image) if self._evidence else None

    def _message(self) -> bytes:
        kept = self._evidence.version if self._evidence else 0
        line = line_out(self._view, datetime.now(UTC), INCIDENTS_ON_PAGE, kept, self._files)
        line.answered = self._answers
        if self._teaching is not None:
            state = self._teaching.training
            line.training = None if state is None else teaching_routes.training_out(state)
            line.collecting = [teaching_routes.collection_out(c) for c in self._teaching.collections()]
        return line.model_dump_json().encode()

    def _close_streams(self) -> None:
        self._hub.close()
        self._feed.close()
