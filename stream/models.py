"""Which model each camera is inspected with: loaded at start, swapped when `latest` moves or one appears.

A model that can't be loaded is said once, in words, and the old one goes on; it is tried again now and
then, and at once when its folder changes. One that ran and failed, so that the engine took it out, would fail
again: it comes back only when somebody asks for it, or after another version.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from config.settings import CameraSettings
from engine import artifact
from engine.core import ModelInfo
from engine.errors import EngineError
from engine.library import CameraTuning, Library
from engine.versions import MANIFEST, resolve
from engine.zones import Areas

from .web.errors import Refused

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
# A model that was refused is read and made ready again so often: that takes seconds, of a machine that works.
TRY_AGAIN_S = 30.0


def areas_of(camera: CameraSettings) -> Areas:
    """Where on its pictures defects count."""
    return Areas(camera.roi, tuple(mask.polygon for mask in camera.masks.values()))


def tuning(camera: CameraSettings) -> CameraTuning:
    """What the config file says of a camera, in the engine's words."""
    detect, areas = camera.detect, areas_of(camera)
    return CameraTuning(
        min_area_px=detect.min_area_px,
        roi=areas.roi,
        masks=areas.masks,
        false_alarms_per_hour=detect.false_alarms_per_hour,
        fps=camera.fps,
        # A part that is triggered is one picture and one answer: no second look lowers its false alarms.
        on_frames=1 if camera.frames == "every" else detect.on_frames,
        threshold=detect.threshold,
        tiles=camera.tiles,
    )


def _level_of(camera: CameraSettings) -> tuple[object, ...]:
    """What the file says of the alarm level."""
    said = tuning(camera)
    return said.threshold, said.false_alarms_per_hour, said.fps, said.on_frames


@dataclass(frozen=True, slots=True)
class _Version:
    """A version on disk; made anew under the same number it is another one.

    `stamps`, of manifest and weights: when they were changed (ns), and their bytes. Not their inodes: there
    are network file systems that make those up at every look.
    """

    folder: Path
    stamps: tuple[tuple[int, int], ...]

    @classmethod
    def find(cls, models: Path, ref: str) -> "_Version":
        """Raises VersionError, OSError."""
        folder = resolve(models, ref)
        files = (folder / MANIFEST, folder / artifact.WEIGHTS)
        # Weights that are missing are for `load` to tell.
        told = (file.stat() for file in files if file.exists())
        return cls(folder, tuple((one.st_mtime_ns, one.st_size) for one in told))


class Models:
    """`on_model(camera, info)` is called on the event loop after a model was loaded, which a thread does; the
    next change of any camera's model waits for it. Event loop only.
    """

    def __init__(
        self,
        library: Library,
        folder: Path,
        cameras: Mapping[str, CameraSettings],
        on_model: Callable[[str, ModelInfo], Awaitable[None]],
        tick_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._library = library
        self._folder = folder
        self._cameras = dict(cameras)
        self._on_model, self._tick_s = on_model, tick_s
        self._refs = {name: camera.model.ref for name, camera in cameras.items()}
        self._one_at_a_time = asyncio.Lock()
        # What was loaded last, and what was tried last and when: the library may have taken out the one, and
        # refused the other.
        self._loaded: dict[str, _Version] = {}
        self._tried: dict[str, tuple[_Version, float]] = {}
        self._said: dict[str, str] = {}
        # Alarm levels that were set by hand, on the page or by a command.
        self._levels: dict[str, float] = {}

    def missing(self) -> dict[str, str]:
        """Cameras that are not inspected, and why, in words."""
        return {name: self._why_missing(name) for name in self._cameras if self._library.get(name) is None}

    def _why_missing(self, camera: str) -> str:
        """What became of the model that ran, and why no other one does."""
        whys = dict.fromkeys((self._library.broken(camera), self._said.get(camera)))
        return " ".join(why for why in whys if why) or "no model yet"

    def model_of(self, camera: str) -> ModelInfo | None:
        """What the camera's next picture is inspected with; None: it is not inspected."""
        entry = self._library.get(camera)
        return None if entry is None else entry.info

    def is_by_hand(self, camera: str) -> bool:
        """Whether its alarm level was set by hand: it goes with the model or the program."""
        return camera in self._levels

    def area_of(self, camera: str) -> Areas | None:
        """What of the camera's picture is inspected, as something that compares; None: all of it."""
        if (settings := self._cameras.get(camera)) is None:
            return None
        return areas_of(settings) or None

    def refused(self, camera: str, why: EngineError) -> None:
        """The device did not take the camera's model, and the library let it go."""
        self._said[camera] = str(why)
        log.error("camera %s is not inspected: %s", camera, why)

    def check(self, camera: str, settings: CameraSettings) -> None:
        """Raises EngineError for a tuning that the model that runs can't have. Other `tiles` are no mistake:
        they are for the next model, and the one that runs goes on with its own.
        """
        self._library.check(camera, replace(tuning(settings), tiles=None))

    async def watch(self, camera: str, settings: CameraSettings) -> None:
        """A camera is new, or was retuned; `check` found nothing. A level set by hand stays, unless the file
        says something new of the level; so does a model that was chosen by a command.
        """
        async with self._one_at_a_time:
            old = self._cameras.get(camera)
            self._cameras[camera] = settings
            if old is None or old.model.ref != settings.model.ref:
                self._refs[camera] = settings.model.ref
            if old is None or tuning(old) == tuning(settings):
                return
            self._tried.pop(camera, None)  # with other settings it may do
            if _level_of(old) != _level_of(settings):
                self._levels.pop(camera, None)
            try:
                info = await self._tune(camera, self._levels.get(camera))
                if info is not None:
                    self._compare_areas(camera)
                    await self._on_model(camera, info)
                self._library.check(camera, tuning(settings))
            except EngineError as error:  # other tiles, or another model came since `check`
                self._complain(camera, str(error))

    async def forget(self, camera: str) -> None:
        """A camera is gone for good; its model too."""
        async with self._one_at_a_time:
            for known in (self._cameras, self._refs, self._loaded, self._tried, self._said, self._levels):
                known.pop(camera, None)
            self._library.remove(camera)

    async def set_threshold(self, camera: str, level: float | None, of: ModelInfo | None = None) -> ModelInfo:
        """Another alarm level, a raw map value, for the model that runs; None: back to the config's or the
        model's own. Holds until the model is swapped or the program ends.

        `of` is the model, with its level, by which the asker chose: raw values of another one mean something
        else. None: whichever runs. Raises Refused, also while the camera is still being added.
        """
        async with self._one_at_a_time:
            self._require(camera)
            entry = self._library.get(camera)
            if entry is None:
                raise Refused(f"camera {camera} is not inspected: {self._why_missing(camera)}")
            if of is not None and of != entry.info:
                raise Refused(
                    f"The model of camera {camera} or its alarm level was changed meanwhile: it is inspected "
                    f"with {entry.info.name}@{entry.info.version} now. Look at its next pictures, then set "
                    "the level again."
                )
            try:
                info = await self._tune(camera, level)
            except EngineError as error:
                raise Refused(str(error)) from error
            if info is None:  # it was taken out just now
                raise Refused(f"camera {camera} is not inspected: {self._why_missing(camera)}")
            if level is None:
                self._levels.pop(camera, None)
            else:
                self._levels[camera] = level
            await self._on_model(camera, info)
            return info

    def _require(self, camera: str) -> None:
        """The config file may name a camera a moment before it is here, or after it is gone."""
        if camera not in self._cameras:
            raise Refused(f"there is no camera {camera} yet, or not any more")

    async def _tune(self, camera: str, level: float | None) -> ModelInfo | None:
        """None for a camera without a model. Raises EngineError."""
        wish = replace(tuning(self._cameras[camera]), tiles=None)  # the model that runs has its own
        tuned = wish if level is None else replace(wish, threshold=level)
        try:
            # In a thread: the library may be busy with preparing another model, and the loop must go on.
            return await asyncio.to_thread(self._library.tune, camera, tuned)
        except KeyError:
            return None

    def in_use(self) -> dict[str, set[int]]:
        """Model name → versions that run, or that a camera is pinned to."""
        found: dict[str, set[int]] = {}
        for version in self._loaded.values():
            found.setdefault(version.folder.parent.name, set()).add(int(version.folder.name))
        for ref in self._refs.values():
            name, _, number = ref.partition("@")
            if number.isdecimal():
                found.setdefault(name, set()).add(int(number))
        return found

    async def choose(self, camera: str, ref: str) -> ModelInfo:
        """Inspect a camera with NAME@7 or NAME@latest from the next batch on, until the program ends.

        Raises Refused for one that can't be loaded, and for a camera that is still being added; then the old
        one goes on.
        """
        async with self._one_at_a_time:
            self._require(camera)
            try:
                version = await asyncio.to_thread(_Version.find, self._folder, ref)
                entry = self._library.get(camera)
                runs = entry is not None and self._loaded.get(camera) == version
                info = entry.info if entry is not None and runs else await self._load(camera, version)
            except (EngineError, OSError) as error:
                raise Refused(str(error)) from error
            self._refs[camera] = ref
            self._said.pop(camera, None)
            if not runs:
                await self._on_model(camera, info)
            return info

    async def look(self) -> None:
        """Load what is new. Cheap when nothing is."""
        for name in list(self._cameras):
            async with self._one_at_a_time:
                if name in self._cameras:  # else removed meanwhile
                    await self._look_at(name)

    async def _look_at(self, camera: str) -> None:
        try:
            version = await asyncio.to_thread(_Version.find, self._folder, self._refs[camera])
            if not self._is_due(camera, version, self._tick_s()):
                return
            info = await self._load(camera, version)
        except (EngineError, OSError) as error:  # a network folder that is away for a moment is no end
            self._complain(camera, str(error))
        else:
            self._said.pop(camera, None)
            await self._on_model(camera, info)

    def _is_due(self, camera: str, version: _Version, now: float) -> bool:
        """Whether this version, the one that is wanted, should be loaded now."""
        if self._loaded.get(camera) == version:
            runs = self._library.get(camera) is not None
            broken = self._library.broken(camera) is not None and not self._library.may_return(camera)
            if runs or broken:
                return False
        tried, at = self._tried.get(camera, (None, now))
        return tried != version or now - at >= TRY_AGAIN_S

    async def keep_looking(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()

    async def _load(self, camera: str, version: _Version) -> ModelInfo:
        """Raises EngineError; then the old one goes on."""
        self._tried[camera] = version, self._tick_s()
        wish = tuning(self._cameras[camera])

        def put() -> ModelInfo:
            return self._library.put(camera, artifact.load(version.folder), wish)

        info = await asyncio.to_thread(put)
        self._loaded[camera] = version
        self._levels.pop(camera, None)
        self._compare_areas(camera)
        return info

    def _compare_areas(self, camera: str) -> None:
        entry, settings = self._library.get(camera), self._cameras[camera]
        if entry is None or settings.detect.threshold or entry.artifact.areas == areas_of(settings):
            return
        log.warning(
            "camera %s: the alarm level of %s@%d was set for other areas of the picture: `linewatch "
            "calibrate %s --data FOLDER` sets it for those of today",
            *(camera, entry.info.name, entry.info.version, entry.info.name),
        )

    def _complain(self, camera: str, sentence: str) -> None:
        if self._said.get(camera) != sentence:
            self._said[camera] = sentence
            log.warning("camera %s: %s", camera, sentence)
