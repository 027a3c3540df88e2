"""kill -9 at any moment loses no event that was decided, invents none, and leaves no incident open."""

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from stream.broker import EmbeddedBroker, RunFile
from stream.events import Event
from tests.brokers import KEYS, stored, valkey


async def run_and_kill(folder: Path, rng: random.Random) -> None:
    process = await start(folder)
    assert process.stdout is not None
    await process.stdout.readline()
    await asyncio.sleep(rng.uniform(0.0, 0.25))
    process.kill()
    await process.wait()


async def run_to_the_end(folder: Path) -> None:
    process = await start(folder, "last")
    await process.communicate()
    assert process.returncode == 0


async def start(folder: Path, *more: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.system.deciding",
        *(str(folder / name) for name in ("run.json", "outbox.db", "journal")),
        *more,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )


def check(read: list[Event], journal: list[str], kills: int) -> None:
    ids = [event.id for event in read]
    assert len(set(ids)) == len(ids)
    assert set(journal) <= set(ids)
    # Stored, and killed before the journal had it: at most one transaction for each kill.
    assert len(ids) - len(journal) <= 3 * kills
    for camera in {event.camera for event in read}:
        assert [e.seq for e in read if e.camera == camera] == list(
            range(1, 1 + sum(e.camera == camera for e in read))
        )
    opened = [e.defect_id for e in read if e.phase == "open"]
    closed = [e.defect_id for e in read if e.phase == "close" and e.kind != "system"]
    assert sorted(opened) == sorted(closed)
    assert len(set(opened)) == len(opened)


async def kills(folder: Path, times: int, broker_dies_too: bool) -> None:
    rng = random.Random(times)
    async with valkey(folder / "broker") as broker:
        RunFile(broker.endpoint, KEYS.events, os.getpid()).write(folder / "run.json")
        for turn in range(times):
            await run_and_kill(folder, rng)
            if broker_dies_too and turn % 3 == 2:
                await kill_broker(broker)
        await run_to_the_end(folder)
        async with broker.endpoint.client(30.0) as client:
            read = await stored(client)
    check(read, (folder / "journal").read_text().split(), times)


async def kill_broker(broker: EmbeddedBroker) -> None:
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGKILL)


async def test_a_few_kills_lose_nothing(tmp_path: Path) -> None:
    await kills(tmp_path, 4, broker_dies_too=True)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_two_hundred_kills_lose_nothing(tmp_path: Path) -> None:
    await kills(tmp_path, 200, broker_dies_too=True)
