"""A line without cameras for the tests of bridges: a real broker, outbox, publisher, command reader, status.

What a camera would decide the test decides: `defect`, `verdict`. Commands are answered by the real Control.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from config.load import parse
from config.settings import Settings
from engine.core import ModelInfo
from stream.bridges.process import Bridge
from stream.broker import EmbeddedBroker
from stream.console import linewatch
from stream.control import Control, Controls
from stream.drafts import Part
from stream.endings import end
from stream.events import Event, Verdict
from stream.inbox import Inbox
from stream.outbox import Outbox
from stream.publisher import Publisher
from stream.recorder import Recorder
from stream.status import StatusBoard
from stream.web.errors import Refused
from tests.brokers import KEYS

INFO = ModelInfo("top", 7, "f" * 64, 2.0, 1.0)
CONFIG = """
version: 1
site: test
line: line-1
parts: {verdict_within_ms: 1000}
cameras:
  top: {source: {type: pattern}, frames: every}
  side: {source: {type: pattern}}
bridges:
"""


def settings_with(folder: Path, *bridges: str, config: str = CONFIG) -> Settings:
    """A file with these bridges, one line each: `plc: {type: modbus, …}`."""
    text = config + "".join(f"  {bridge}\n" for bridge in bridges)
    return parse(text, name="cameras.yaml", folder=folder, env={})


class BridgeLine:
    """`status` is what the cameras' hashes say; `alive` False ends the heartbeat; `triggers` came in."""

    def __init__(self, broker: EmbeddedBroker, folder: Path) -> None:
        self.broker, self.folder = broker, folder
        self.alive = True
        self.status: dict[str, dict[str, str | int | float]] = {
            camera: {"ready": 1, "busy": 0, "error_code": 0, "ok_count": 70_000, "ng_count": 3}
            for camera in ("top", "side")
        }
        self.triggers: list[dict[str, str]] = []
        self.thresholds: dict[str, float | None] = {}
        self.outbox = Outbox(folder / "outbox.db")
        self.publisher = Publisher(self.outbox, broker.endpoint.client, KEYS, maxlen=100_000)
        self.recorder = Recorder(
            self.outbox, site="test", line="line-1", on_recorded=lambda events: self.publisher.wake()
        )
        controls = Controls(self._set_threshold, self._choose, lambda camera, on: None)
        control = Control(frozenset({"top", "side"}), controls, self.recorder)
        client = broker.endpoint.client
        self._inboxes = [
            Inbox(client, KEYS.commands, KEYS.dead, control.take),
            Inbox(client, KEYS.triggers, KEYS.dead, self._triggered),
        ]
        self._board = StatusBoard(
            client,
            KEYS,
            lambda: dict(self.status),
            alive=lambda: self.alive,
            every_s=0.05,
            heartbeat_every_s=0.5,
        )

    async def __aenter__(self) -> "BridgeLine":
        runs = [self.publisher.run(), self._board.run(), *(inbox.run() for inbox in self._inboxes)]
        self._tasks = [asyncio.create_task(run) for run in runs]
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(self._tasks)
        self.outbox.close()

    def defect(self, camera: str = "side", phase: str = "open", defect_id: str | None = None) -> Event:
        """An incident's event, decided now."""
        drafts = self.recorder.drafts
        draft = drafts.fact("defect", phase, camera, phase=phase)  # type: ignore[arg-type]
        update: dict[str, Any] = {"verdict": "ng", "severity": "major", "score_ratio": 1.5}
        return self._put(draft.model_copy(update=update | ({"defect_id": defect_id} if defect_id else {})))

    def verdict(
        self, part: str, verdict: Verdict = "ng", camera: str = "top", asked_s: float | None = None
    ) -> Event:
        """The answer to a trigger of `asked_s` (UTC seconds; now)."""
        stamp = int((time.time() if asked_s is None else asked_s) * 1000)
        draft = self.recorder.drafts.verdict(
            camera, Part(part, "job-7"), verdict, None, None, detail={"trigger": f"{stamp}-0"}
        )
        return self._put(draft.model_copy(update={"score_ratio": 1.25}), ("events", "verdicts"))

    def _put(self, draft: Event, streams: tuple[str, ...] = ("events",)) -> Event:
        (event,) = self.outbox.put([draft], streams)
        self.publisher.wake()
        return event

    async def _triggered(self, entry: str, fields: dict[str, str]) -> bool:
        self.triggers.append(fields)
        return True

    async def _set_threshold(self, camera: str, level: float | None) -> ModelInfo:
        if level is not None and level <= 0:
            raise Refused("an alarm level is above 0")
        self.thresholds[camera] = level
        return replace(INFO, threshold=level or 2.0)

    async def _choose(self, camera: str, ref: str) -> ModelInfo:
        if ref != "top@7":
            raise Refused(f"there is no model {ref}")
        return INFO


@contextlib.asynccontextmanager
async def running(line: BridgeLine, name: str, *bridges: str, config: str = CONFIG) -> AsyncIterator[Bridge]:
    """The bridge `name` of these, in this process, on the test's loop."""
    settings = settings_with(line.folder, *bridges, config=config)
    bridge = Bridge(name, settings, line.broker.endpoint, KEYS.events)
    stop = asyncio.Event()
    task = asyncio.create_task(bridge.run(stop), name=f"bridge {name}")
    try:
        yield bridge
    finally:
        stop.set()
        await task


def config_file(line: BridgeLine, *bridges: str) -> Path:
    """The same on disk; the broker's password comes by the environment (see `environment`)."""
    events = f'{{url: "{line.broker.endpoint.url}", password: {{env: BROKER_PASSWORD}}}}'
    path, fresh = line.folder / "cameras.yaml", line.folder / "fresh.yaml"
    fresh.write_text(f"{CONFIG}" + "".join(f"  {bridge}\n" for bridge in bridges) + f"events: {events}\n")
    return fresh.replace(path)  # another bridge may be reading it


def environment(line: BridgeLine) -> dict[str, str]:
    """For a child process."""
    return {**os.environ, "BROKER_PASSWORD": line.broker.endpoint.password or ""}


@contextlib.asynccontextmanager
async def bridge_process(
    line: BridgeLine, name: str, *bridges: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`linewatch bridge NAME` as a process of its own; killed in the end if it still runs. What it says goes
    to NAME.log, which nobody has to read for it to go on.
    """
    with (line.folder / f"{name}.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *linewatch(),
            *("bridge", name, "--config", str(config_file(line, *bridges))),
            env=environment(line),
            stderr=log,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def pending(client: Redis, group: str) -> int:
    """Entries that the group read and has not acknowledged."""
    told: Any = await client.xpending(KEYS.events, group)
    return int(told["pending"])


def asks_whether_its_peers_are_there(port: int) -> bool:
    """Whether every connection to this port of ours has a keep-alive timer in the kernel (at least one)."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = [row[5] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"]
    return bool(established) and all(timer.startswith("02:") for timer in established)
