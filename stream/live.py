"""The config file, edited while the line runs: seen, checked, carried out or refused, and said.

    look      are the file and the secret files it names others than before, and finished being written?
    load      every mistake is said with its line, and nothing changes
    check     what only the running line can know
    carry out the cameras that differ, and no others
    say       log, event, REST

`run` is one task, so that one edit is carried out after the other. What it can't do is change what the line
was started with: see config/changes.py.
"""

import asyncio
import logging
import traceback
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from config.changes import Changes, compare, unsafe_pushes
from config.document import Path as Key
from config.load import ConfigError, load, parse, placed, with_drawn
from config.settings import Settings, config_sha256

from .recorder import Recorder
from .web.errors import Refused
from .web.view import ConfigView

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
# With a broken file something that is missing may appear that we can't watch.
_AGAIN_EVERY = 10
_STOPPING = "Linewatch is stopping."

Signature = dict[Path, tuple[int, int, int] | None]


class Changeable(Protocol):
    """What the line can do about it."""

    def check(self, changes: Changes) -> dict[str, str]:
        """Camera → why its new settings can't be carried out. In a thread."""

    async def change(self, changes: Changes) -> None:
        """Carry it out."""


class _Unreadable(ConfigError):
    """Reading the file met a bug of ours. `where` it happened: without its words, they may hold a secret."""

    def __init__(self, file: Path, error: Exception) -> None:
        super().__init__([f"{file}: can't be read because of a fault in Linewatch ({type(error).__name__})"])
        self.where = "".join(traceback.format_tb(error.__traceback__))


class LiveConfig:
    """`in_force` are the settings that the line runs with. `before_change(in_force, file)` is called before
    anything of the file is used: the logs must know its secrets.
    """

    def __init__(
        self,
        settings: Settings,
        line: Changeable,
        recorder: Recorder,
        before_change: Callable[[Settings, Settings], None] = lambda old, new: None,
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        self.in_force = settings
        self._line, self._recorder, self._before_change = line, recorder, before_change
        self._every_s = every_s
        self._said = set(settings.warnings)
        self._asked: list[asyncio.Future[ConfigView]] = []
        self._wake = asyncio.Event()
        self._over = False
        self._seen = self._loaded = _signature(settings.files)
        self._view = ConfigView(file=str(settings.file or ""), sha256=config_sha256(settings))
        self._looks_since_broken = 0

    def view(self) -> ConfigView:
        """What became of the last edit."""
        return self._view

    async def reload(self) -> ConfigView:
        """Read the file now. Raises Refused without one; what is wrong with it stands in `mistakes`."""
        if self.in_force.file is None:
            raise Refused("These settings come from no file.")
        if self._over:
            raise Refused(_STOPPING)
        answer: asyncio.Future[ConfigView] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        self._wake.set()
        return await answer

    async def validate(self, text: str) -> ConfigView:
        """What `text` would be told in place of the file; changes nothing."""
        file = self.in_force.file or Path("cameras.yaml")
        try:
            read = await asyncio.to_thread(_parsed, text, file)
        except ConfigError as error:
            return replace(self._view, mistakes=error.lines, added=(), removed=(), changed=())
        return _told(self._view, compare(self.in_force, read), read)

    async def run(self) -> None:
        """Until cancelled. Raises what is a bug."""
        try:
            await self._catch_up()
            while True:
                await self._pause()
                asked = len(self._asked)
                if asked or await self._is_edited():
                    await self._read()
                for answer in self._asked[:asked]:
                    if not answer.done():  # else who asked has gone
                        answer.set_result(self._view)
                del self._asked[:asked]
        finally:
            self._over = True
            for answer in self._asked:
                if not answer.done():
                    answer.set_exception(Refused(_STOPPING))

    async def _catch_up(self) -> None:
        """The file was read before this was made, and much of the program was loaded in between: an edit of
        that time is one too.
        """
        try:
            read = await asyncio.to_thread(_loaded, self.in_force.file)
            changes = compare(self.in_force, read)
        except ConfigError:
            is_other = True
        else:
            is_other = changes.any or bool(changes.at_next_start)
        if is_other:
            self._loaded = dict.fromkeys(self._loaded, (0, 0, 0))  # as no file is

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._every_s):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _is_edited(self) -> bool:
        """Other than what was loaded, and the same at two looks: an editor may write in several steps, and
        half a file may well be a valid one with cameras missing.
        """
        now = await asyncio.to_thread(_signature, self._loaded)
        finished, self._seen = now == self._seen, now
        self._looks_since_broken += bool(self._view.mistakes)
        return finished and (now != self._loaded or self._looks_since_broken >= _AGAIN_EVERY)

    async def _read(self) -> None:
        # Signed before they are read: what is written meanwhile differs at the next look.
        self._loaded = self._seen = await asyncio.to_thread(_signature, self._loaded)
        self._looks_since_broken = 0
        try:
            read = await asyncio.to_thread(_loaded, self.in_force.file)
            changes = compare(self.in_force, read)
            await self._check(changes)
        except ConfigError as error:
            return self._refuse(error)
        signed = await asyncio.to_thread(_signature, read.files)
        self._loaded = self._seen = {file: self._loaded.get(file, sign) for file, sign in signed.items()}
        await self._carry_out(changes, read)

    async def _check(self, changes: Changes) -> None:
        """Raises ConfigError for what only the running line can know."""
        wrong: dict[Key, str] = {
            ("cameras", name, "source", "token"): "is missing: the page can be reached by others until the "
            "next start, and anybody could push pictures"
            for name in unsafe_pushes(changes.after)
        }
        said = await asyncio.to_thread(self._line.check, changes)
        wrong |= {("cameras", name): text for name, text in said.items()}
        if wrong:
            file = changes.before.file
            assert file is not None
            lines = [await asyncio.to_thread(placed, file, key, text) for key, text in wrong.items()]
            raise ConfigError(lines)

    def _refuse(self, error: ConfigError) -> None:
        mistakes = error.lines
        if mistakes == self._view.mistakes:
            return  # said already; it is looked at again and again
        self._view = replace(self._view, mistakes=mistakes, added=(), removed=(), changed=())
        for mistake in mistakes:
            log.error("the edited config changes nothing: %s", mistake)
        if isinstance(error, _Unreadable):
            log.error("where that happened:\n%s", error.where)
        more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
        reason = f"the edited config changes nothing: {mistakes[0]}{more}"
        self._recorder.system("config", reason, {"answer": "refused", "mistakes": len(mistakes)}, "major")

    async def _carry_out(self, changes: Changes, read: Settings) -> None:
        self._before_change(self.in_force, read)
        self.in_force, waited = changes.after, self._view.at_next_start
        self._view = _told(self._view, changes, read)
        if changes.any:
            self._recorder.configured(self._view.sha256)
            await self._line.change(changes)
        self._tell(changes, waited)

    def _tell(self, changes: Changes, waited: tuple[str, ...]) -> None:
        for warning in self._view.warnings:
            if warning not in self._said:
                self._said.add(warning)
                log.warning("%s", warning)
        if changes.at_next_start and changes.at_next_start != waited:
            log.warning("%s", waits(changes.at_next_start))
        log.info("the config was read again: %s", summary(changes))
        if changes.any:
            counts = {"added": len(changes.added), "removed": len(changes.removed)}
            counts["changed"] = len(changes.changed)
            detail: dict[str, int | float | str] = {"answer": "done", "config_sha256": self._view.sha256}
            detail |= counts
            self._recorder.system("config", summary(changes), detail)


def summary(changes: Changes) -> str:
    """What an edit led to, in a sentence."""
    parts = [
        f"{what} {', '.join(names)}"
        for what, names in (
            ("added", changes.added),
            ("removed", changes.removed),
            ("changed", changes.changed),
        )
        if names
    ]
    if not parts:
        return "other limits, the same cameras" if changes.any else "nothing changed"
    return "cameras " + "; ".join(parts)


def waits(keys: tuple[str, ...]) -> str:
    """The sentence about keys that the running line can't change."""
    return f"{', '.join(keys)}: can't be changed while the line runs; takes effect at the next start"


def _loaded(file: Path | None) -> Settings:
    """As `load`, for a thread; a bug there is no reason to stop a line that runs well. Raises ConfigError."""
    try:
        return load(file)
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 - a worker thread's outermost line
        raise _Unreadable(file or Path(), error) from None


def _parsed(text: str, file: Path) -> Settings:
    return with_drawn(parse(text, name=file.name, folder=file.parent))


def _told(before: ConfigView, changes: Changes, read: Settings) -> ConfigView:
    return ConfigView(
        before.file,
        config_sha256(changes.after),
        added=changes.added,
        removed=changes.removed,
        changed=changes.changed,
        at_next_start=changes.at_next_start,
        warnings=read.warnings,
    )


def _signature(files: Iterable[Path]) -> Signature:
    """When each was written, its size, and which file it is (editors rename, Kubernetes swaps links)."""
    return {file: _signed(file) for file in files}


def _signed(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
