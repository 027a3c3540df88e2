"""A bridge that was started by hand hears of edits of its config file: it says so, and goes on as it is.

`linewatch run` checks an edit against the running line and then starts its own bridges again (children.py).
One that runs alone can't know what the line makes of the edit, so who started it decides.
"""

import asyncio
import logging

from config.load import ConfigError, load
from config.settings import Settings

from ..stamps import stamps
from .link import Place

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0


async def tell_edits(name: str, settings: Settings, every_s: float = LOOK_EVERY_S) -> None:
    """Until cancelled: a line in the log for each edit that the bridge `name` should take up."""
    seen = stamps(settings.files)
    while True:
        await asyncio.sleep(every_s)
        now = await asyncio.to_thread(stamps, settings.files)
        if now == seen:
            continue
        seen = now
        try:
            read = await asyncio.to_thread(load, settings.file)
        except ConfigError:
            continue  # broken, or half written: then it is written once more
        if _told(name, read) != _told(name, settings):
            log.warning("the config file was edited: start bridge %s again, and it takes that up", name)


def _told(name: str, settings: Settings) -> tuple[object, ...]:
    """What the bridge goes by."""
    return Place.of(settings), settings.bridges.get(name), settings.events
