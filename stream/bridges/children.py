"""The bridges that `linewatch run` starts: each a process of its own, started again when it ends.

A bridge in trouble costs the line nothing but a log line. One that was taken out of the config file and has
ended is started again only when the file names it once more. One that outlived us would be in the next
start's way, so each ends when its standard input does, however we ended.
"""

import asyncio
import contextlib
import logging
import random
from pathlib import Path

from config.load import ConfigError, load
from config.settings import Settings

from ..backoff import delay_s
from ..console import linewatch
from ..endings import end
from .link import Place

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 30.0
CALM_AFTER_S = 60.0
STOP_WITHIN_S = 5.0


class BridgeProcesses:
    """`start` when the broker's address is known (the run file is there), `stop` before the broker ends."""

    def __init__(self, settings: Settings) -> None:
        self.names = tuple(name for name, bridge in settings.bridges.items() if bridge.autostart)
        self._file = settings.file
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._renewed: set[str] = set()
        self._stopping = False

    def start(self) -> None:
        """Needs settings that were read from a file: the bridges read it themselves."""
        file = self._file
        if file is None:
            if self.names:
                log.error("bridges are not started: these settings come from no file")
            return
        self._keepers = {
            name: asyncio.create_task(self._keep(name, file), name=f"bridge-{name}") for name in self.names
        }

    def changed(self, before: Settings, after: Settings) -> None:
        """The file was edited. Where it says something else about the line, the bridges read it again."""
        if Place.of(before) != Place.of(after):
            self.renew()

    def renew(self) -> None:
        """Each ends in order, starts again and reads the file. One that hangs is insisted on."""
        loop = asyncio.get_running_loop()
        for name, process in self._running.items():
            self._renewed.add(name)
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            loop.call_later(STOP_WITHIN_S, self._insist, name, process)

    def _insist(self, name: str, process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            log.error("bridge %s did not end within %g s; it is killed", name, STOP_WITHIN_S)
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    async def stop(self) -> None:
        """Each is asked to end, and insisted on."""
        self._stopping = True
        await end(keeper for name, keeper in self._keepers.items() if name not in self._running)
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        if ending := [keeper for keeper in self._keepers.values() if not keeper.done()]:
            await asyncio.wait(ending, timeout=STOP_WITHIN_S)
        await end(self._keepers.values())
        self._keepers = {}

    async def _keep(self, name: str, file: Path) -> None:
        failures, loop = 0, asyncio.get_running_loop()
        while True:
            started_s = loop.time()
            code = await self._run(name, file)
            if self._stopping:
                return
            is_renewed = name in self._renewed
            self._renewed.discard(name)
            if await asyncio.to_thread(_is_gone, name, file):
                log.info("bridge %s has ended; it starts again when the config file names it for us", name)
                while await asyncio.to_thread(_is_gone, name, file):  # noqa: ASYNC110 - a file tells nobody
                    await asyncio.sleep(LONGEST_WAIT_S)
                failures = 0
            elif is_renewed:
                log.info("bridge %s starts again, with the file as it is now", name)
            else:
                failures = 1 if loop.time() - started_s > CALM_AFTER_S else failures + 1
                wait_s = delay_s(failures, LONGEST_WAIT_S, random.random())
                log.error("bridge %s ended (code %s); it is started again in %.1f s", name, code, wait_s)
                await asyncio.sleep(wait_s)

    async def _run(self, name: str, file: Path) -> int | str:
        """Its exit code, or why it could not be started. A cancellation kills it."""
        words = [*linewatch(), "bridge", name, "--config", str(file), "--until-eof"]
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                # Ctrl-C in a terminal goes to the whole group: we alone say what stops when.
                start_new_session=True,
            )
        except OSError as error:
            return error.strerror or type(error).__name__
        self._running[name] = process
        try:
            return await process.wait()
        finally:
            del self._running[name]
            if process.returncode is None:
                process.kill()


def _is_gone(name: str, file: Path) -> bool:
    """Whether the file names it no more, or leaves it to others (`autostart: false`). In a thread. False for
    a file that is wrong: the bridge itself says why. A bug there is said, and no reason to leave a bridge
    unwatched.
    """
    try:
        bridge = load(file).bridges.get(name)
    except ConfigError:
        return False
    except Exception:  # a worker thread's outermost line
        log.exception("whether %s still names bridge %s could not be seen", file, name)
        return False
    return bridge is None or not bridge.autostart
