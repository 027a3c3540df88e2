"""A disk that takes nothing more: what is decided waits in memory and is stored once there is room."""

import asyncio
import os
import resource
import sys
from pathlib import Path

import pytest

from config.load import parse
from stream.broker import BrokerError, RunFile, run_file_of
from stream.delivery import Delivery
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


async def test_a_run_file_that_the_disk_refuses_is_a_sentence_and_broker_and_outbox_are_closed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The line ended with a traceback, and left its broker running."""
    text = f"version: 1\nevents: {{embedded: {{dir: {tmp_path}/b}}, outbox: {{path: {tmp_path}/o.db}}}}\n"
    settings = parse(text, name="cameras.yaml", folder=tmp_path, env={})
    delivery = Delivery(settings, lambda: None, lambda group: None)
    await delivery.start()
    (run_file := run_file_of(settings.events)).mkdir()  # can be neither replaced nor removed, by root either
    with pytest.raises(BrokerError, match=r"run\.json can't be written: .*; mend that, or name"):
        delivery.announce()
    await delivery.stop(0.0)
    assert f"the run file {run_file} can't be removed: " in caplog.text
    assert not [*run_file.parent.glob(".run.json*")], "half a run file is left"
    run_file.rmdir()
    again = Delivery(settings, lambda: None, lambda group: None)
    await again.start()
    again.announce()
    await again.stop(0.0)
    assert not run_file.exists()
