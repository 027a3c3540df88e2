"""A disk that takes nothing more: what is decided waits in memory and is stored once there is room."""

import asyncio
import os
import resource
import sys
from pathlib import Path

from stream.broker import RunFile
from tests.brokers import KEYS, stored, valkey


async def line_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


def let_files_grow_to(limit: int, process: asyncio.subprocess.Process) -> None:
    """The kernel refuses this process every write beyond `limit` bytes of a file."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


async def test_a_disk_that_is_full_for_a_while_costs_no_event(tmp_path: Path) -> None:
    async with valkey(tmp_path / "broker") as broker:
        RunFile(broker.endpoint, KEYS.events, os.getpid()).write(tmp_path / "run.json")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.system.numbering",
            str(tmp_path / "run.json"),
            str(tmp_path / "outbox.db"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(3):
            let_files_grow_to(100_000, process)
            assert await line_of(process) == "refused"
            let_files_grow_to(resource.RLIM_INFINITY, process)
            assert await line_of(process) == "stored"
        assert process.stdin is not None
        process.stdin.close()
        decided = int(await line_of(process))
        assert await process.wait() == 0
        async with broker.endpoint.client() as client:
            read = await stored(client)
    assert [event.detail["number"] for event in read] == list(range(decided))
    assert [event.seq for event in read] == list(range(1, decided + 1))
