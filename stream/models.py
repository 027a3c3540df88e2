"""Which model each camera is inspected with: loaded at start, swapped when `latest` moves or one appears.

A model that can't be loaded is said once, in words, and the old one goes on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

from config.settings import CameraSettings
from engine import artifact
from engine.core import ModelInfo
from engine.errors import EngineError
from engine.library import CameraTuning, Library

from .web.errors import Refused

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0


def tuning(camera: CameraSettings) -> CameraTuning:
    """What the config file says of a camera, in the engine's words."""
    detect = camera.detect
    return CameraTuning(
        min_area_px=detect.min_area_px,
        roi=camera.roi,
        masks=tuple(mask.polygon for mask in camera.masks.values()),
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


class Models:
    """`on_model(camera, info)` is called on the event loop after a model was loaded, which a thread does."""

    def __init__(
        self,
        library: Library,
        folder: Path,
        cameras: Mapping[str, CameraSettings],
        on_model: Callable[[str, ModelInfo], Awaitable[None]],
    ) -> None:
        self._library = library
        self._folder = folder
        self._cameras = dict(cameras)
        self._on_model = on_model
        self._refs = {name: camera.model.ref for name, camera in cameras.items()}
        self._one_at_a_time = asyncio.Lock()
        self._loaded: dict[str, Path] = {}
        self._said: dict[str, str] = {}
        # Alarm levels that were set by hand, on the page or by a command.
        self._levels: dict[str, float] = {}

    def missing(self) -> dict[str, str]:
        """Cameras without a model, and why: one sentence each."""
        return {
            name: self._said.get(name, "no model yet") for name in self._cameras if name not in self._loaded
        }

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
            if _level_of(old) != _level_of(settings):
                self._levels.pop(camera, None)
            try:
                info = await self._tune(camera, self._levels.get(camera))
                self._library.check(camera, tuning(settings))
            except EngineError as error:  # other tiles, or another model came since `check`
                self._complain(camera, str(error))
                info = None
        if info is not None:
            await self._on_model(camera, info)

    async def forget(self, camera: str) -> None:
        """A camera is gone for good; its model too."""
        async with self._one_at_a_time:
            for known in (self._cameras, self._refs, self._loaded, self._said, self._levels):
                known.pop(camera, None)
            self._library.remove(camera)

    async def set_threshold(self, camera: str, level: float | None) -> ModelInfo:
        """Another alarm level, a raw map value, for the model that runs; None: back to the config's or the
        model's own. Holds until the model is swapped or the program ends. Raises Refused.
        """
        try:
            info = await self._tune(camera, level)
        except EngineError as error:
            raise Refused(str(error)) from error
        if info is None:
            raise Refused(f"camera {camera} has no model yet")
        if level is None:
            self._levels.pop(camera, None)
        else:
            self._levels[camera] = level
        await self._on_model(camera, info)
        return info

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
        for folder in self._loaded.values():
            found.setdefault(folder.parent.name, set()).add(int(folder.name))
        for ref in self._refs.values():
            name, _, version = ref.partition("@")
            if version.isdecimal():
                found.setdefault(name, set()).add(int(version))
        return found

    async def choose(self, camera: str, ref: str) -> ModelInfo:
        """Inspect a camera with NAME@7 or NAME@latest from the next batch on, until the program ends.

        Raises Refused for one that can't be loaded; then the old one goes on.
        """
        async with self._one_at_a_time:
            try:
                info = await asyncio.to_thread(self._load, camera, ref)
            except (EngineError, OSError) as error:
                raise Refused(str(error)) from error
            self._refs[camera] = ref
        self._said.pop(camera, None)
        if info is not None:
            await self._on_model(camera, info)
        entry = self._library.get(camera)
        assert entry is not None
        return entry.info

    async def look(self) -> None:
        """Load what is new. Cheap when nothing is."""
        for name in list(self._cameras):
            try:
                async with self._one_at_a_time:
                    if name not in self._cameras:
                        continue  # removed meanwhile
                    info = await asyncio.to_thread(self._load, name, self._refs[name])
            except (EngineError, OSError) as error:  # a network folder that is away for a moment is no end
                self._complain(name, str(error))
            else:
                if info is not None:
                    self._said.pop(name, None)
                    await self._on_model(name, info)

    async def keep_looking(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()

    def _load(self, name: str, ref: str) -> ModelInfo | None:
        folder = artifact.resolve(self._folder, ref)
        if self._loaded.get(name) == folder:
            return None
        info = self._library.put(name, artifact.load(folder), tuning(self._cameras[name]))
        self._loaded[name] = folder
        self._levels.pop(name, None)
        return info

    def _complain(self, name: str, sentence: str) -> None:
        if self._said.get(name) != sentence:
            self._said[name] = sentence
            log.warning("camera %s: %s", name, sentence)
