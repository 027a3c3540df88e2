"""What is wrong with a file's bridges beyond its keys: files of this machine, addresses that two want.

Never a reason not to start the line: a certificate that ends must not stop it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from config import bridges
from config.settings import Settings

from .sink import BridgeOptions, Wrong


def wrong_bridges(settings: Settings) -> Iterator[tuple[str, Wrong]]:
    """Each mistake with its bridge's name. Reads files, connects nowhere."""
    taken = {settings.web.listen: "the page (web.listen)"}
    for name, bridge in settings.bridges.items():
        options = bridge.options
        if not isinstance(options, BridgeOptions):
            yield (
                name,
                Wrong(("type",), f"the package of {bridge.type} is wrong: its Options are no BridgeOptions"),
            )
            continue
        if why := _why_not_a_folder(bridge.state_dir):
            yield name, Wrong(("state_dir",), why)
        if options.alone is not None:
            key, what = options.alone
            if what in taken:
                yield name, Wrong(key, f"{what} is taken by {taken[what]}")
            elif not what.endswith(":0"):
                taken[what] = f"bridge {name}"
        check = getattr(bridges.load(bridge.type), "check", None)
        if check is not None:
            for wrong in check(options, settings.site, settings.line):
                yield name, wrong


def _why_not_a_folder(folder: Path) -> str | None:
    """Where it is not there yet, the next folder above that is has to take it."""
    try:
        there = next(path for path in (folder, *folder.parents) if path.exists())
    except OSError as error:  # this user may not look into a folder above; a name is too long
        return f"{folder} can't be reached: {error.strerror}"
    if not there.is_dir():
        return f"{there} is no folder"
    return None if os.access(there, os.W_OK | os.X_OK) else f"{there} can't be written to by this user"
