"""Teach the running line's cameras: collect good pictures → train → look at the report → promote, or go back.

Everything is started by a person on the page or by a program over REST; nothing here is awaited by a frame,
and a disk that hangs takes the page's own threads. The trainer itself is another program (training.py).
"""

import asyncio
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

from config.settings import CameraSettings, Settings
from engine import versions
from engine.core import Frame, Inspection
from engine.errors import EngineError
from engine.model.dmdd import SIZES
from engine.shelf import Version, promote_checked, rollback_checked, shelves
from engine.zones import EVERYWHERE

from .collection import Captured, Collection
from .device import teacher_weights
from .endings import end
from .housekeeping import Stored, good_picture, good_pictures, tidy_models, tidy_pictures
from .models import areas_of
from .steady_days import SteadyDays
from .training import Training, TrainingState
from .web.errors import Gone, Refused

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_FRAMES = 5000
REPORT = "report.html"
_TIDY_EVERY_S = 60.0
_PATIENCE_S = 120.0
# Where the trainer keeps what a training that was ended had reached.
_KEPT = ".training.safetensors"


@dataclass(frozen=True, slots=True)
class CollectionState:
    """Good pictures being collected, or how that ended: `reason` is "" while it goes on and when all are
    there."""

    camera: str
    wanted: int
    captured: Captured
    at_work: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Shelf:
    """A model's versions, ascending, and the cameras whose config names it; `pinned` those with one version.

    `earlier` is what a rollback would go to, `reports` the versions that have one; `interrupted`: a training
    was ended, from which the next one goes on; `no_latest`: why nobody knows which version is the latest.
    """

    name: str
    cameras: tuple[str, ...]
    pinned: Mapping[str, int]
    versions: tuple[Version, ...]
    earlier: int | None
    reports: frozenset[int]
    interrupted: bool
    no_latest: str = ""

    @property
    def latest(self) -> int | None:
        return next((v.version for v in self.versions if v.latest), None)


@dataclass(slots=True)
class _Collecting:
    collection: Collection
    with_alarms: bool
    task: asyncio.Task[None] | None = None


class Teaching:
    """Event loop only. `settings()` are those in force; `in_use()` model name → versions that run or are
    pinned; `extra` are further words for the trainer. Whoever runs models sees by itself that `latest` moved.

    What can't be done raises Refused, what isn't there raises Gone; the disk's own errors are OSError.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        *,
        in_use: Callable[[], Mapping[str, set[int]]],
        extra: tuple[str, ...] = (),
    ) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self.removed: Counter[str] = Counter()
        self._settings = settings
        self._in_use = in_use
        self._extra = extra
        self._over = False
        self._days = SteadyDays("good pictures")
        # What remembers pictures is there only while it goes on; how it ended stays.
        self._collecting: dict[str, _Collecting] = {}
        self._collections: dict[str, CollectionState] = {}
        self.trainer = Training(lambda: self.on_change())

    # -- life ---------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Ends a training and every collection, and begins none from now on. Safe to call twice."""
        self._over = True
        await self.trainer.stop()
        await end([c.task for c in self._collecting.values() if c.task is not None])

    async def keep_tidy(self) -> None:
        """Until cancelled: once a minute what is too old or too much is removed."""
        while True:
            await self.tidy()
            await asyncio.sleep(_TIDY_EVERY_S)

    async def tidy(self) -> None:
        """Remove what is too old or too much."""
        settings = self._settings()
        pictures, models, now = settings.pictures, settings.models, time.time()
        days = pictures.max_age_days if self._days.are(now, time.monotonic()) else None
        jobs: Mapping[str, Callable[[], int]] = {
            "pictures": partial(tidy_pictures, pictures.dir, now, max_mb=pictures.max_mb, max_age_days=days),
            "versions": partial(tidy_models, models.dir, models.keep_versions, self._kept()),
        }
        for what, job in jobs.items():
            try:
                self.removed[what] += await asyncio.to_thread(job)
            except OSError as error:
                log.error("old %s could not be removed: %s", what, error)

    def _kept(self) -> dict[str, set[int]]:
        """Versions that run, and those that any camera is pinned to: a disabled one is one word from
        running."""
        kept = {name: set(versions_) for name, versions_ in self._in_use().items()}
        for camera in self._settings().cameras.values():
            name, _, version = camera.model.ref.partition("@")
            if version.isdecimal():
                kept.setdefault(name, set()).add(int(version))
        return kept

    # -- collect ------------------------------------------------------------------------------------

    def offer(self, picture: Inspection | Frame) -> None:
        """A picture that the line shows. A microsecond while nothing is collected of its camera."""
        frame = picture.frame if isinstance(picture, Inspection) else picture
        found = self._collecting.get(frame.camera)
        if found is None:
            return
        if isinstance(picture, Inspection) and picture.defects and not found.with_alarms:
            return found.collection.skip("alarm")
        found.collection.offer(frame)

    def collect(self, camera: str, frames: int, every_s: float, with_alarms: bool) -> CollectionState:
        """Keep so many good pictures of what the camera shows; pictures that alarm only if so said."""
        self._check_open()
        self._camera(camera)
        if camera in self._collecting:
            raise Refused(f"Pictures of camera {camera} are being collected already.")
        collection = Collection(
            self.good_folder(camera),
            frames=frames,
            every_s=every_s,
            patience_s=_PATIENCE_S,
            on_progress=partial(self._collected, camera),
        )
        self._collections[camera] = state = CollectionState(camera, frames, collection.captured, at_work=True)
        self._collecting[camera] = found = _Collecting(collection, with_alarms)
        found.task = asyncio.create_task(self._collect(camera, collection), name=f"collect-{camera}")
        self.on_change()
        return state

    def stop_collecting(self, camera: str) -> CollectionState:
        """What was collected stays."""
        found = self._collecting.get(camera)
        if found is None:
            raise Refused(f"No pictures of camera {camera} are being collected.")
        found.collection.stop()
        return self._change(camera, reason="It was stopped.")

    def collections(self) -> list[CollectionState]:
        """One a camera: what is being collected, or the last one."""
        return list(self._collections.values())

    async def _collect(self, camera: str, collection: Collection) -> None:
        reason = ""
        try:
            await collection.run()
        except OSError as error:
            reason = f"The pictures can't be written: {error.strerror}."
        except Exception:
            self._change(camera, at_work=False, reason="A bug ended it; the log says more.")
            raise
        finally:
            del self._collecting[camera]
        before = self._collections[camera]
        if not reason and before.captured.written < before.wanted:
            reason = before.reason or f"Nothing new was worth keeping for {_PATIENCE_S:g} s."
        self._change(camera, at_work=False, reason=reason)
        log.info("%d good pictures of camera %s collected", before.captured.written, camera)

    def _collected(self, camera: str, captured: Captured) -> None:
        if captured != self._collections[camera].captured:
            self._change(camera, captured=captured)

    def _change(self, camera: str, **changes: Any) -> CollectionState:
        self._collections[camera] = state = replace(self._collections[camera], **changes)
        self.on_change()
        return state

    # -- the good pictures themselves ---------------------------------------------------------------

    def good_folder(self, camera: str) -> Path:
        """Where a camera's good pictures are."""
        return self._settings().pictures.dir / camera / "good"

    async def pictures(self, camera: str) -> list[Stored]:
        """The newest first."""
        self._camera(camera)
        found = await run_in_threadpool(good_pictures, self.good_folder(camera))
        return sorted(found, key=lambda picture: (picture.at, picture.path.name), reverse=True)

    async def picture(self, camera: str, name: str) -> Path:
        """One of them by its `shown_name`. Only what is listed has a path."""
        self._camera(camera)
        if found := await run_in_threadpool(good_picture, self.good_folder(camera), name):
            return found.path
        # Its name may be in no encoding that we know.
        wanted = [p.path for p in await self.pictures(camera) if shown_name(p.path) == name]
        if not wanted:
            raise Gone("There is no such picture; it may have been removed.")
        return wanted[0]

    async def remove_picture(self, camera: str, name: str) -> None:
        """It was not good, after all."""
        path = await self.picture(camera, name)
        try:
            await run_in_threadpool(path.unlink, missing_ok=True)
        except OSError as error:
            raise Refused(f"The picture can't be removed: {error.strerror}.") from error
        self.on_change()

    # -- train --------------------------------------------------------------------------------------

    @property
    def training(self) -> TrainingState | None:
        """The training at hand, or the last one."""
        return self.trainer.state

    def train(self, camera: str, steps: int | None = None) -> TrainingState:
        """Train the camera's model from its good pictures; `steps` None: the trainer's own choice."""
        self._check_open()
        settings, said = self._settings(), self._camera(camera)
        model = said.model
        words = ["--data", str(self.good_folder(camera)), "--models", str(settings.models.dir)]
        words += ["--size", model.size, "--input-px", str(model.input_px), "--device", settings.engine.device]
        words += ["--tiles", said.tiles or "1x1"]
        if (file := teacher_weights(settings.models.teacher_file).get(SIZES[model.size].teacher)) is not None:
            words += ["--teacher-weights", str(file)]
        if steps is not None:
            words += ["--steps", str(steps)]
        name = name_of(model.ref)
        sharing = [c for c, its in settings.cameras.items() if c != camera and name_of(its.model.ref) == name]
        # Each of several cameras has areas of its own, and all of them this model's alarm level.
        words += ["--areas", json.dumps((EVERYWHERE if sharing else areas_of(said)).to_json())]
        self.trainer.start(camera, name, [*words, *self._extra], _one_sided(camera, name, sharing))
        assert self.training is not None
        return self.training

    async def cancel_training(self) -> TrainingState:
        """End it; started again with the same pictures it goes on from there."""
        await self.trainer.cancel()
        assert self.training is not None
        return self.training

    # -- promote, or go back ------------------------------------------------------------------------

    async def shelves(self) -> list[Shelf]:
        """Every model, by name; those that cameras want also while they have no version."""
        try:
            return await run_in_threadpool(self._shelves)
        except EngineError as error:
            raise Refused(str(error)) from error

    def _shelves(self) -> list[Shelf]:
        settings = self._settings()
        wanted: dict[str, dict[str, str]] = {}
        for camera, said in settings.cameras.items():
            if said.enabled:
                name, _, version = said.model.ref.partition("@")
                wanted.setdefault(name, {})[camera] = version
        found = shelves(settings.models.dir)
        return [
            _shelf(settings.models.dir, name, found.get(name, []), wanted.get(name, {}))
            for name in sorted({*found, *wanted})
        ]

    async def promote(self, model: str, version: int) -> None:
        """Use this version from the next batch on, wherever the latest is used."""
        await self._move(partial(promote_checked, self._settings().models.dir, f"{model}@{version}"))

    async def rollback(self, model: str, from_version: int) -> int:
        """Back to the version before; `from_version` is the latest that the asker saw, so that asking twice
        goes back once."""
        return await self._move(partial(rollback_checked, self._settings().models.dir, model, from_version))

    async def _move(self, job: Callable[[], T]) -> T:
        try:
            done = await run_in_threadpool(job)
        except EngineError as error:
            raise Refused(str(error)) from error
        self.on_change()
        return done

    async def report(self, model: str, version: int) -> Path:
        """The report of a version, a file inside the models' folder."""
        folder = self._settings().models.dir

        def find() -> Path:
            path = folder / versions.check_name(model) / str(version) / REPORT
            if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
                raise Gone(f"There is no report of {model}@{version}.")
            return path

        try:
            return await run_in_threadpool(find)
        except EngineError as error:
            raise Gone(str(error)) from error

    def _check_open(self) -> None:
        if self._over:
            raise Refused("Linewatch is stopping.")

    def _camera(self, name: str) -> CameraSettings:
        camera = self._settings().cameras.get(name)
        if camera is None or not camera.enabled:
            raise Gone("There is no camera of that name on this line.")
        return camera


def _shelf(models: Path, name: str, them: list[Version], cameras: Mapping[str, str]) -> Shelf:
    """`cameras`: camera → the version that its config says, a number or `latest`."""
    home = models / name
    return Shelf(
        name,
        tuple(cameras),
        {camera: int(version) for camera, version in cameras.items() if version.isdecimal()},
        tuple(them),
        earlier=_earlier(models, name),
        reports=frozenset(
            v.version for v in them if not v.broken and (home / str(v.version) / REPORT).is_file()
        ),
        interrupted=(home / _KEPT).is_file(),
        no_latest=next((v.no_latest for v in them), ""),
    )


def _earlier(models: Path, name: str) -> int | None:
    try:
        return versions.earlier(models, name)
    except (EngineError, OSError):  # `latest` is garbled, or its history is kept from us: no way back
        return None


def shown_name(path: Path) -> str:
    """A file's name as text: an old share's may be in no encoding that we know."""
    return os.fsencode(path.name).decode(errors="replace")


def name_of(ref: str) -> str:
    """top@latest → top."""
    return ref.partition("@")[0]


def _one_sided(camera: str, model: str, sharing: Sequence[str]) -> tuple[str, ...]:
    """What to know before a model that several cameras use learns from the pictures of one."""
    if not sharing:
        return ()
    return (
        f"{', '.join(sharing)} too goes by the model {model}, which now learns from good pictures of "
        f"{camera} alone: if the cameras see different things, give each a model of its own.",
    )
