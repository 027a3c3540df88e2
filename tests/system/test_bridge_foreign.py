"""Bridges and clients of stacks that nobody here wrote or depends on: libmodbus, node-opcua."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from stream.bridges import modbus_map as m
from stream.bridges.modbus_server import ModbusSink
from tests.bridgeline import BridgeLine, running
from tests.brokers import until, valkey
from tests.ports import free_port

HERE = Path(__file__).parents[1]
MODULES = HERE.parent / "var/node-red/node_modules"


@pytest_asyncio.fixture
async def line(tmp_path: Path) -> AsyncIterator[BridgeLine]:
    async with valkey(tmp_path / "broker") as broker, BridgeLine(broker, tmp_path) as line:
        yield line


async def printed(*words: str, **env: str) -> tuple[int | None, str]:
    """Exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env={**os.environ, **env}
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()


@pytest.mark.debian
async def test_libmodbus_reads_and_acknowledges(line: BridgeLine) -> None:
    told = 'plc: {type: modbus, listen: "127.0.0.1:0", stations: {top: {address: 100}}}'
    async with running(line, "plc", told) as bridge:
        sink = bridge.sink
        assert isinstance(sink, ModbusSink)
        await until(lambda: sink.port > 0)
        line.verdict("A-1", "ng")
        await until(lambda: bridge.report.to_output != [0] * len(bridge.report.to_output))

        async def mbpoll(offset: int, *words: str) -> tuple[int | None, str]:
            common = ("mbpoll", "-m", "tcp", "-p", str(sink.port), "-0", "-r", str(100 + offset))
            return await printed(*common, *words)

        code, said = await mbpoll(m.VERDICT, "-c", "2", "-1", "127.0.0.1")
        assert code == 0
        assert "[101]: \t2" in said and "[102]: \t1" in said
        # A PLC's first number may stand there since long ago; a second one is wrong.
        assert (await mbpoll(m.ACK, "127.0.0.1", "0"))[0] == 0
        assert "Illegal data value" in (await mbpoll(m.ACK, "127.0.0.1", "9"))[1]
        assert "Illegal data address" in (await mbpoll(m.STATUS, "127.0.0.1", "0"))[1]
        assert (await mbpoll(m.ACK, "127.0.0.1", "1"))[0] == 0
        await until(lambda: bridge.report.delivered == 1)


@pytest.mark.npm
async def test_node_opcua_reads_and_calls(line: BridgeLine, tmp_path: Path) -> None:
    # Node looks for packages beside the script.
    script = tmp_path / "opcua_client.mjs"
    shutil.copy(HERE / "opcua_client.mjs", script)
    (tmp_path / "node_modules").symlink_to(MODULES)
    port, sent = free_port(), line.verdict("A-1", "ng")
    async with running(line, "scada", f'scada: {{type: opcua, listen: "127.0.0.1:{port}"}}') as bridge:
        await until(lambda: bridge.report.delivered == 1)
        endpoint = f"opc.tcp://127.0.0.1:{port}/linewatch"
        code, said = await printed("node", str(script), endpoint, HOME=str(tmp_path))
        assert code == 0, said
        assert json.loads(next(text for text in said.splitlines() if text.startswith("{"))) == {
            "Linewatch.Site": "test",
            "top.Verdict": "ng",
            "top.PartId": "A-1",
            "top.Result.ResultId": sent.id,
            "called": ["done", "the alarm level is 2.5"],
            "written": "BadUserAccessDenied",
        }
