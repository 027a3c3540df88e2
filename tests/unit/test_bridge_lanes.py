"""What a bridge says of an event that it can neither deliver nor bury."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import NoPermissionError

from stream.bridges import lanes as lanes_module
from stream.bridges.lanes import Lanes
from stream.bridges.progress import Progress
from stream.bridges.report import Report
from stream.bridges.sink import BridgeOptions, Rejected
from stream.consumer import Counts, Held
from stream.endings import end
from stream.events import Event
from tests.brokers import facts, until


class Group:
    """A consumer of one event at a broker that forbids dead letters, until it does not."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.forbids, self.buried = True, 0

    async def held(self, most: int) -> AsyncIterator[Held]:
        (event,) = facts(1)
        yield Held(event, {}, [b"1-0"])
        await asyncio.Event().wait()

    async def reject(self, held: Held, reason: str) -> None:
        if self.forbids:
            raise NoPermissionError("user bridge has no permissions to run the 'xadd' command")
        self.buried += 1


class Choosy:
    async def run(self) -> None: ...

    async def deliver(self, event: Event) -> None:
        raise Rejected("mes answers 400")


async def test_a_dead_letter_that_is_forbidden_is_said_once_and_written_once_it_is_allowed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The camera's events waited behind it for ever, and nobody was told why."""
    monkeypatch.setattr(lanes_module, "LONGEST_WAIT_S", 0.01)
    group: Any = Group()
    report = Report()
    lanes = Lanes(
        group,
        Choosy(),
        BridgeOptions(),
        progress=Progress(tmp_path / "mes.json"),
        report=report,
        name="mes",
        verdict_within_ms=1000.0,
    )
    running = asyncio.create_task(lanes.run())
    with caplog.at_level(logging.WARNING):
        await until(lambda: report.failed >= 3)
    assert len(caplog.messages) == 1
    assert "can't be made a dead letter: the broker's ACL forbids" in caplog.messages[0]
    assert report.trouble is not None and report.trouble in caplog.messages[0]
    group.forbids = False
    await until(lambda: report.dead == 1)
    assert (group.buried, report.trouble) == (1, None)
    await end([running])
