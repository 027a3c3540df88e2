"""Areas and masks drawn on the page: in force between two batches, and kept for the next start.

They stand in a file of our own (config/zones.py), so that nobody writes into the operator's config file.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from config.settings import Settings
from config.zones import DrawnZones, Zones, ZonesError, ZonesFile, read, write
from engine.zones import zone

from .web.errors import Gone, Refused
from .web.view import ConfigView

_SIDE = 256  # finer than any region that is reported
_CHANGED = (
    "The areas of this camera were changed meanwhile: discard yours, look at the new ones, then draw again."
)


@dataclass(frozen=True, slots=True)
class ZonesState:
    """What holds for a camera; `drawn`: it was drawn on the page, and `file` is what the config file says."""

    zones: Zones
    drawn: bool
    file: Zones


class Drawing:
    """Event loop only. `settings()` are those in force; `reload()` puts the config file and what was drawn in
    force, or says in `mistakes` why not, and changes nothing then."""

    def __init__(self, settings: Callable[[], Settings], reload: Callable[[], Awaitable[ConfigView]]) -> None:
        self._settings = settings
        self._reload = reload
        self._one_at_a_time = asyncio.Lock()

    async def state(self, camera: str) -> ZonesState:
        """What holds now. Raises Gone, and Refused when the file of drawn zones can't be read."""
        now = self._now(camera)
        entry = (await self._read()).cameras.get(camera)
        if entry is None or Zones.of(entry) != now:
            return ZonesState(now, False, now)
        return ZonesState(now, True, entry.instead_of)

    async def draw(self, camera: str, zones: Zones | None, base: str | None = None) -> ZonesState:
        """Keep zones and put them in force; None: the config file's again. `base` is the fingerprint of
        those that the asker saw; None: whatever holds. Raises Refused, also where others than `base` hold,
        Gone, OSError; then what held before holds."""
        async with self._one_at_a_time:
            before = await self.state(camera)
            if base is not None and base != before.zones.fingerprint():
                raise Refused(_CHANGED)
            wanted = before.file if zones is None else zones
            _check(wanted)
            content = await self._read()
            after = await self._keep(content, camera, wanted, before.file)
            if zones is not None and after.zones not in (zones, before.zones):
                await self._put_in_force(content, content)
                raise Refused(_CHANGED)  # in the config file, which nobody had read yet
            if zones is not None and after.zones != zones:
                # The config file itself says what was drawn before: its text was pasted there.
                after = await self._keep(content, camera, zones, after.zones)
            return after

    async def _keep(self, before: ZonesFile, camera: str, wanted: Zones, file: Zones) -> ZonesState:
        """What holds with `wanted` instead of what the `file` says, of which it may hold already."""
        cameras = {name: kept for name, kept in before.cameras.items() if name != camera}
        if wanted != file:
            cameras[camera] = DrawnZones(roi=wanted.roi, masks=wanted.masks, instead_of=file)
        await self._put_in_force(before.updated({"cameras": cameras}), before)
        return await self.state(camera)

    async def _put_in_force(self, content: ZonesFile, before: ZonesFile) -> None:
        path = self._settings().web.zones_file
        await asyncio.to_thread(write, path, content)
        try:
            mistakes = (await self._reload()).mistakes
        except Refused:
            await asyncio.to_thread(write, path, before)
            raise
        if mistakes:
            await asyncio.to_thread(write, path, before)
            raise Refused(mistakes[0])

    def _now(self, camera: str) -> Zones:
        found = self._settings().cameras.get(camera)
        if found is None or not found.enabled:
            raise Gone("There is no camera of that name on this line.")
        return Zones.of(found)

    async def _read(self) -> ZonesFile:
        try:
            return await run_in_threadpool(read, self._settings().web.zones_file)
        except ZonesError as error:
            raise Refused(str(error)) from error


def _check(zones: Zones) -> None:
    cells = zone(zones.roi, [mask.polygon for mask in zones.masks.values()], (_SIDE, _SIDE))
    if cells is not None and not cells.any():
        raise Refused("The area to inspect less its masks leaves nothing to inspect.")
