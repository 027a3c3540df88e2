"""One bridge in a process of its own, from its settings until it is told to stop.

lock     one process a bridge here: two would break the order
claim    and one among all machines (stream/claim.py)
group    `bridge-NAME`; its one reader's name stays, so that what a killed one held comes again at once
tasks    the sink's own side · the line's state · events to the sink · the report to the broker
"""

import asyncio
import contextlib
import fcntl
import logging
import random
from pathlib import Path
from typing import IO

from redis.exceptions import RedisError

from config import bridges
from config.settings import Settings

from ..backoff import delay_s
from ..broker import Endpoint
from ..claim import Claim
from ..consumer import Consumer
from ..endings import end
from ..events import Event
from ..heed import heed_cancellation
from ..keys import Keys
from ..publisher import explain
from .lanes import LONGEST_WAIT_S, Lanes
from .link import LineLink, Place
from .progress import Progress
from .report import EXPIRES_S, Report, group_of
from .sink import BridgeOptions, Sink, SinkError

log = logging.getLogger(__name__)

READER = "bridge"
LAST_EVENTS_WITHIN_S = 2.0
_REPORT_EVERY_S = 1.0
_QUIET_S = 0.1


class BridgeError(Exception):
    """The bridge can't be run; one sentence for a person."""

    user_message = True
    exit_code = 2


def known(name: str, settings: Settings) -> None:
    """Raises BridgeError for a name that the file doesn't have."""
    if name not in settings.bridges:
        there = ", ".join(sorted(settings.bridges)) or "none"
        raise BridgeError(f"there is no bridge {name} in the config file; there is: {there}")


class Bridge:
    """The bridge `name` of `settings`. Raises BridgeError when it is not there or runs already."""

    def __init__(self, name: str, settings: Settings, endpoint: Endpoint, stream: str) -> None:
        known(name, settings)
        self.name, self.report = name, Report()
        self._keys, self._endpoint = Keys(stream), endpoint
        chosen = settings.bridges[name]
        options = chosen.options
        if not isinstance(options, BridgeOptions):
            raise BridgeError(
                f"the package of bridge type {chosen.type} is wrong: its Options are no BridgeOptions"
            )
        folder = chosen.state_dir
        self._lock = _lock(folder, name)
        self._claim = Claim(
            endpoint.client,
            self._keys.bridge_reader(name),
            self._lock,
            what=f"bridge {name} runs already {{where}}",
            mend="stop that one, or say autostart: false where it should not run",
        )
        self._progress = Progress(folder / f"{name}.json")
        place = Place.of(settings, folder / name)
        self.link = LineLink(endpoint.client, self._keys, place, self._no_trouble, self._out)
        self.sink: Sink = bridges.load(chosen.type).build(options, self.link)
        self._reader = endpoint.client()
        consumer = Consumer(self._reader, stream, group_of(name), name=READER)
        self._lanes = Lanes(
            consumer,
            self.sink,
            options,
            progress=self._progress,
            report=self.report,
            name=name,
            verdict_within_ms=place.verdict_within_ms,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Raises the broker's error when it refuses us at the start, Taken when the
        bridge runs on another machine, and bugs.
        """
        try:
            await self._claim.take()
        except BaseException:
            await self._close()
            raise
        tasks = [
            asyncio.create_task(self._claim.keep(), name="bridge-claim"),
            asyncio.create_task(self.link.run(), name="bridge-link"),
            asyncio.create_task(self._keep_sink(), name="bridge-sink"),
            asyncio.create_task(self._lanes.run(), name="bridge-lanes"),
            asyncio.create_task(self._keep_reporting(), name="bridge-report"),
        ]
        stopping = asyncio.create_task(stop.wait(), name="bridge-stop")
        try:
            await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    _result(task)
            await self._last_events()
        finally:
            stopping.cancel()
            await end(tasks)
            await self._close()

    async def _last_events(self) -> None:
        """What the line said when it stopped is just coming: it is passed on, if that goes well and soon."""
        until_s = asyncio.get_running_loop().time() + LAST_EVENTS_WITHIN_S
        before = -1
        while before != self.report.delivered and asyncio.get_running_loop().time() < until_s:
            before = self.report.delivered
            await asyncio.sleep(_QUIET_S if self.report.held == 0 else 4 * _QUIET_S)

    def _out(self, event: Event) -> None:
        self._lanes.out(event)

    def _no_trouble(self) -> None:
        self.report.trouble = None

    async def _close(self) -> None:
        with contextlib.suppress(RedisError, OSError):
            await self._reader.aclose()
        self._progress.save_or_say(asyncio.get_running_loop().time())
        self._lock.close()

    async def _keep_sink(self) -> None:
        """The sink's own side runs until it fails; then it is started again, later and later."""
        failures = 0
        while True:
            started_s = asyncio.get_running_loop().time()
            try:
                # In its own task: on Python 3.11 a TaskGroup that fails leaves its task half cancelled.
                await asyncio.create_task(self.sink.run(), name="sink")
            except SinkError as error:
                if str(error) != self.report.trouble:
                    log.warning("bridge %s: %s", self.name, error)
                self.report.trouble = str(error)
                self.report.failed += 1
            heed_cancellation()
            calm = asyncio.get_running_loop().time() - started_s > 2 * LONGEST_WAIT_S
            failures = 1 if calm else failures + 1
            await asyncio.sleep(delay_s(failures, LONGEST_WAIT_S, random.random()))

    async def _keep_reporting(self) -> None:
        # Entered, a cluster's would want to reach it at once.
        async with contextlib.aclosing(self._endpoint.client(timeout_s=2.0)) as client:
            while True:
                said = self.report.json_text()
                with contextlib.suppress(RedisError, OSError):
                    await client.set(self._keys.bridge_report(self.name), said, ex=EXPIRES_S)
                self._progress.save_or_say(asyncio.get_running_loop().time())
                heed_cancellation()
                await asyncio.sleep(_REPORT_EVERY_S)


def _result(task: asyncio.Task[None]) -> None:
    """Raises what ended the task, without the group around it."""
    try:
        task.result()
    except ExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise


def _lock(folder: Path, name: str) -> IO[bytes]:
    """Ours until it is closed or we die, however we die. The bridge's own folder is there then."""
    try:
        (folder / name).mkdir(parents=True, exist_ok=True)
        handle = (folder / f"{name}.lock").open("ab")
    except OSError as error:
        raise BridgeError(
            f"bridges.{name}.state_dir {folder}: {error.strerror}; name another folder"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise BridgeError(
            f"bridge {name} runs already in another process; `linewatch run` starts the bridges of its file "
            "unless they say autostart: false"
        ) from None
    return handle


def explained(error: Exception) -> BridgeError:
    """The broker's refusal, for a person."""
    return BridgeError(f"the bridge can't read the stream: {explain(error)}")
