"""The viewers' hub: pictures are drawn and encoded once per camera and look, for everybody who watches it.

    show(inspection) ─► newest of the camera ─► at most one drawing job per channel ─► one place per viewer
    (event loop)                                (two threads)                          (event loop)

A channel is one camera in one look. Nobody watches: nothing is drawn. A job that is overtaken by newer
pictures draws the newest next; what it skipped is counted. Everything but the drawing happens on the event
loop.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from engine.core import Frame, Inspection

from .. import overlay
from .scene import LIVE, Look, Picture, Renderer, Scene
from .video import VideoViewer
from .view import CameraView
from .viewers import Seats, Viewer

_VIDEO_FPS = 25.0

_TITLES = {"connecting": "CONNECTING", "frozen": "FROZEN", "down": "OFFLINE", "refused": "OFFLINE"}


@dataclass(slots=True)
class Counts:
    """Since start.

    `drawn` pictures were encoded, `overtaken` ones never were, `dropped` ones were not read.
    """

    drawn: int = 0
    overtaken: int = 0
    dropped: int = 0


@dataclass(slots=True)
class _Channel:
    camera: str
    look: Look
    renderer: Renderer
    gap_s: float
    viewers: set[Viewer[Picture]] = field(default_factory=set)
    drawing: Scene | None = None
    again: bool = False
    key: bool = False
    waiting: asyncio.TimerHandle | None = None
    next_at: float = 0.0
    shown: Scene | None = None
    last: Picture | None = None


class Hub:
    """Use from one event loop; `close()` ends every viewer's wait and joins the threads.

    `states` gives the cameras now; it is asked once a second while somebody watches, and on
    `camera_changed()`.
    """

    def __init__(
        self,
        states: Callable[[], Iterable[CameraView]],
        *,
        seats: Seats,
        quality: int = 80,
        max_fps: float = 10.0,
        workers: int = 2,
        utc: Callable[[], float] = time.time,
    ) -> None:
        self._counts = Counts()
        self._states = states
        self._seats = seats
        self._quality = quality
        self._gap_s = 1 / max_fps
        self._utc = utc
        self._newest: dict[str, Inspection | Frame] = {}
        self._absent: dict[str, overlay.Absence] = {}
        self._since: dict[str, float] = {}
        self._gone_at: dict[str, float] = {}
        self._removed: dict[str, float] = {}
        self._channels: dict[tuple[str, Look], _Channel] = {}
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="hub")
        self._ticker: asyncio.Task[None] | None = None
        self._closed = False

    def show(self, picture: Inspection | Frame) -> None:
        """A new inspection, or a bare frame of a camera without a model. Event loop only; never waits."""
        frame = picture.frame if isinstance(picture, Inspection) else picture
        camera = frame.camera
        if frame.tick < self._gone_at.get(camera, 0.0):
            return  # it was on the device when its camera went away
        self._newest[camera] = picture
        if camera not in self._absent:
            self._want_all(camera)

    def camera_changed(self) -> None:
        """Ask for the cameras' states now and draw what changed."""
        before = self._absent
        cameras = list(self._states())
        self._absent = {c.name: _absence(c) for c in cameras if c.state != "live"}
        self._since = {c.name: c.since for c in cameras}
        # What a camera showed before it went away is no picture of now when it is back.
        removed = {camera for camera, _ in self._channels} - self._since.keys()
        self._removed = {camera: self._removed.get(camera, self._utc()) for camera in removed}
        now, gone = time.monotonic(), self._absent.keys() - before.keys()
        self._gone_at = {n: now if n in gone else self._gone_at.get(n, 0.0) for n in self._since}
        self._newest = {n: p for n, p in self._newest.items() if n in self._since and n not in gone}
        for name in before.keys() | self._absent.keys():
            if before.get(name) != self._absent.get(name):
                self._want_all(name)

    def watch(self, cameras: Iterable[str], look: Look = LIVE) -> Viewer[Picture]:
        """A seat for these cameras (one, for video); the newest picture of each comes first. Raises Full."""
        self._seats.take()
        self.camera_changed()
        channels = [self._channel(camera, look) for camera in cameras]
        viewer: Viewer[Picture] = Viewer(self._leave)
        if look.video:
            viewer = VideoViewer(self._leave, lambda: self._want_key(channels[0]))
        for channel in channels:
            channel.viewers.add(viewer)
            if look.video:
                self._want_key(channel)
            elif channel.last is not None and channel.shown == self._scene(channel.camera):
                viewer.put(channel.camera, channel.last)
            else:
                self._want(channel)
        self._start_ticking()
        if self._closed:
            viewer.close()
        return viewer

    def counts(self) -> Counts:
        """A copy, with the viewers who are still there."""
        present = {viewer for channel in self._channels.values() for viewer in channel.viewers}
        dropped = self._counts.dropped + sum(viewer.dropped for viewer in present)
        return replace(self._counts, dropped=dropped)

    async def snapshot(self, camera: str, look: Look) -> Picture | None:
        """One picture, by the same way; None when the hub closes meanwhile. May be cancelled."""
        with self.watch([camera], look) as viewer:
            return await viewer.next()

    def close(self) -> None:
        """Ends all streams at once. Nothing is drawn any more."""
        self._closed = True
        for channel in self._channels.values():
            for viewer in channel.viewers:
                viewer.close()
        if self._ticker is not None:
            self._ticker.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _scene(self, camera: str) -> Scene:
        absence = self._absent.get(camera)
        if absence is not None:
            return absence
        if camera not in self._since:
            since = self._removed.get(camera, self._utc())
            return overlay.Absence("REMOVED", "This camera is no longer in the configuration.", since)
        return self._newest.get(camera) or overlay.Absence("WAITING", "No picture yet.", self._since[camera])

    def _channel(self, camera: str, look: Look) -> _Channel:
        if (camera, look) not in self._channels:
            gap_s = 1 / _VIDEO_FPS if look.video else self._gap_s
            renderer = Renderer(camera, look, self._quality)
            self._channels[camera, look] = _Channel(camera, look, renderer, gap_s)
        return self._channels[camera, look]

    def key_wanted(self, camera: str, look: Look) -> None:
        """A viewer's video lost something: the next picture shall need none before it."""
        if (camera, look) in self._channels:
            self._want_key(self._channels[camera, look])

    def _want_key(self, channel: _Channel) -> None:
        channel.key = True
        self._want(channel)

    def _want_all(self, camera: str) -> None:
        for channel in [c for (name, _), c in self._channels.items() if name == camera]:
            self._want(channel)

    def _want(self, channel: _Channel) -> None:
        if self._closed or not channel.viewers:
            return
        scene = self._scene(channel.camera)
        if channel.drawing is not None:
            if channel.drawing != scene or channel.key:
                self._counts.overtaken += channel.again
                channel.again = True
            return
        if channel.waiting is not None:
            self._counts.overtaken += 1
            return
        loop = asyncio.get_running_loop()
        # A quarter of grace: a camera that runs at max_fps must not lose pictures to jitter.
        grace_s = channel.gap_s / 4
        wait_s = channel.next_at - loop.time()
        if wait_s > grace_s:
            channel.waiting = loop.call_later(wait_s, self._waited, channel)
            return
        self._draw(channel, scene)

    def _waited(self, channel: _Channel) -> None:
        channel.waiting = None
        self._want(channel)

    def _draw(self, channel: _Channel, scene: Scene) -> None:
        loop = asyncio.get_running_loop()
        channel.drawing = scene
        channel.next_at = max(channel.next_at, loop.time()) + channel.gap_s
        key, channel.key = channel.key, False
        job = loop.run_in_executor(
            self._pool, channel.renderer.render, scene, self._utc(), time.monotonic(), key
        )
        job.add_done_callback(lambda done: self._drawn(channel, scene, done))

    def _drawn(self, channel: _Channel, scene: Scene, done: "asyncio.Future[Picture]") -> None:
        channel.drawing = None
        if self._closed or done.cancelled():
            return
        picture = done.result()
        channel.shown, channel.last = scene, picture
        self._counts.drawn += 1
        for viewer in channel.viewers:
            viewer.put(channel.camera, picture)
        if channel.again:
            channel.again = False
            self._want(channel)

    def _leave(self, viewer: Viewer[Picture]) -> None:
        self._seats.free()
        self._counts.dropped += viewer.dropped
        for key, channel in list(self._channels.items()):
            channel.viewers.discard(viewer)
            if not channel.viewers:
                if channel.waiting is not None:
                    channel.waiting.cancel()
                # An unwatched channel keeps no picture: it would only be old when somebody comes.
                del self._channels[key]
        if not self._channels and self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None

    def _start_ticking(self) -> None:
        if self._ticker is None and not self._closed:
            self._ticker = asyncio.get_running_loop().create_task(self._tick(), name="hub-tick")

    async def _tick(self) -> None:
        """Keeps `for 4 min 12 s` true: once a second, only where no picture comes."""
        while True:
            await asyncio.sleep(1.0)
            self.camera_changed()
            for channel in list(self._channels.values()):
                if isinstance(self._scene(channel.camera), overlay.Absence):
                    self._want(channel)


def _absence(camera: CameraView) -> overlay.Absence:
    return overlay.Absence(_TITLES.get(camera.state, camera.state.upper()), camera.reason, camera.since)
