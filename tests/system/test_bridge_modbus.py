"""The Modbus bridge and a real client: the handshake survives a slow PLC and a restart on either side."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.constants import ExcCodes

from stream.bridges import modbus_map as m
from stream.bridges import modbus_server
from stream.bridges.modbus import Options
from stream.bridges.modbus_server import ModbusSink
from stream.bridges.process import Bridge
from tests.bridgeline import CONFIG, BridgeLine, asks_whether_its_peers_are_there, pending, running
from tests.brokers import until, valkey

TOP, SIDE = 100, 200
PLC = 'plc: {type: modbus, listen: "127.0.0.1:0", stations: {top: {address: 100}, side: {address: 200}}%s}'


@pytest_asyncio.fixture
async def line(tmp_path: Path) -> AsyncIterator[BridgeLine]:
    async with valkey(tmp_path / "broker") as broker, BridgeLine(broker, tmp_path) as line:
        yield line


class Plc:
    """What a PLC's program does, in words."""

    def __init__(self, client: AsyncModbusTcpClient) -> None:
        self._client = client

    async def read(self, block: int, offset: int, count: int = 1) -> list[int]:
        answer = await self._client.read_holding_registers(block + offset, count=count)
        assert not answer.isError(), answer
        return list(answer.registers)

    async def one(self, block: int, offset: int) -> int:
        return (await self.read(block, offset))[0]

    async def until(self, block: int, offset: int, value: int) -> None:
        while await self.one(block, offset) != value:  # noqa: ASYNC110 - a PLC polls
            await asyncio.sleep(0.01)

    async def until_bit(self, block: int, bit: int, is_set: bool = True) -> None:
        while bool(await self.one(block, m.STATUS) & bit) != is_set:  # noqa: ASYNC110 - a PLC polls
            await asyncio.sleep(0.01)

    async def write(self, block: int, offset: int, *values: int) -> int:
        """0, or the exception code that the bridge answers."""
        answer = await self._client.write_registers(block + offset, list(values))
        return int(answer.exception_code) if answer.isError() else 0

    async def trigger(self, number: int, part: str) -> int:
        return await self.write(TOP, m.TRIGGER, number, *m.text_registers(part, m.PART_REGISTERS))

    async def write_all(self, ack: int, number: int, part: str) -> int:
        """What a PLC does that copies its whole block in each cycle."""
        texts = *m.text_registers(part, m.PART_REGISTERS), *m.text_registers("", m.JOB_REGISTERS)
        return await self.write(TOP, m.ACK, ack, number, *texts)


@contextlib.asynccontextmanager
async def plc_of(bridge: Bridge) -> AsyncIterator[Plc]:
    sink = bridge.sink
    assert isinstance(sink, ModbusSink)
    await until(lambda: sink.port > 0)
    client = AsyncModbusTcpClient("127.0.0.1", port=sink.port, retries=0)
    assert await client.connect()
    try:
        yield Plc(client)
    finally:
        client.close()


async def test_the_map_says_what_the_line_says(line: BridgeLine) -> None:
    async with running(line, "plc", PLC % "") as bridge, plc_of(bridge) as plc:
        await plc.until(0, m.ALIVE, 1)
        assert await plc.read(0, 0, 1) == [m.MAP_VERSION]
        await plc.until_bit(TOP, m.READY)
        assert await plc.read(TOP, m.OK_COUNT, 4) == [1, 70_000 - 0x10000, 0, 3]
        before = await plc.one(0, m.HEARTBEAT)
        while await plc.one(0, m.HEARTBEAT) == before:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_reject_is_latched_until_the_plc_has_acknowledged_it(line: BridgeLine) -> None:
    async with running(line, "plc", PLC % "") as bridge, plc_of(bridge) as plc:
        await plc.until(0, m.ALIVE, 1)
        line.verdict("A-1", "ng")
        line.verdict("A-2", "ok")
        await plc.until_bit(TOP, m.REJECT)
        assert await plc.read(TOP, m.VERDICT, 2) == [2, 1]
        assert m.registers_text(await plc.read(TOP, m.PART, m.PART_REGISTERS)) == "A-1"
        assert await plc.one(TOP, m.RATIO) == 1250
        assert await plc.write(TOP, m.ACK, 1) == 0
        await plc.until(TOP, m.RESULT_NO, 2)
        assert await plc.read(TOP, m.VERDICT, 1) == [1]
        assert not await plc.one(TOP, m.STATUS) & m.REJECT
        await until(lambda: bridge.report.delivered == 2)


async def test_a_camera_that_is_no_station_is_nobodys_late_verdict(
    line: BridgeLine, caplog: pytest.LogCaptureFixture
) -> None:
    side = 'plc: {type: modbus, listen: "127.0.0.1:0", stations: {side: {address: 200}}}'
    line.verdict("A-1", "ng", asked_s=time.time() - 900.0)
    line.recorder.system("config", "nothing changed")
    opened = line.defect("side")
    options = Options.model_validate({"stations": {"side": {"address": 200}}, "kinds": ["part"]})
    assert not options.wants(opened), "and the kinds count as ever"
    async with (
        running(line, "plc", side) as bridge,
        plc_of(bridge) as plc,
        line.broker.endpoint.client() as client,
    ):
        await plc.until(SIDE, m.RESULT_NO, 1)
        assert await plc.write(SIDE, m.ACK, 1) == 0
        while await pending(client, "bridge-plc"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert (bridge.report.delivered, bridge.report.late) == (1, 0)
    assert "too late" not in caplog.text


async def test_a_slow_plc_gets_every_result_in_order_and_holds_up_no_other_camera(line: BridgeLine) -> None:
    async with (
        running(line, "plc", PLC % ", handshake: every") as bridge,
        plc_of(bridge) as plc,
        line.broker.endpoint.client() as client,
    ):
        await plc.until(0, m.ALIVE, 1)
        for n in range(5):
            line.verdict(f"A-{n}", "ok")
        line.defect("side")
        await plc.until_bit(SIDE, m.REJECT)
        assert await pending(client, "bridge-plc") == 6
        for n in range(5):
            await plc.until(TOP, m.RESULT_NO, n + 1)
            assert m.registers_text(await plc.read(TOP, m.PART, m.PART_REGISTERS)) == f"A-{n}"
            assert await plc.write(TOP, m.ACK, n + 1) == 0
        await until(lambda: bridge.report.delivered == 5)


async def test_a_bridge_that_is_started_again_shows_the_same_result_under_the_same_number(
    line: BridgeLine,
) -> None:
    async with running(line, "plc", PLC % "") as bridge, plc_of(bridge) as plc:
        line.verdict("A-1", "ng")
        await plc.until(TOP, m.RESULT_NO, 1)
        await plc.write(TOP, m.ACK, 1)
        line.verdict("A-2", "unknown")
        await plc.until(TOP, m.RESULT_NO, 2)
    async with running(line, "plc", PLC % "") as bridge, plc_of(bridge) as plc:
        await plc.until_bit(TOP, m.REJECT)
        assert await plc.read(TOP, m.VERDICT, 2) == [3, 2]
        line.verdict("A-3", "ok")
        assert await plc.write(TOP, m.ACK, 2) == 0
        await plc.until(TOP, m.RESULT_NO, 3)


async def test_a_plc_that_writes_its_whole_block_in_each_cycle_triggers_also_after_a_restart(
    line: BridgeLine,
) -> None:
    async with running(line, "plc", PLC % "") as bridge, plc_of(bridge) as plc:
        line.verdict("A-1", "ng")
        await plc.until(TOP, m.RESULT_NO, 1)
        assert await plc.write_all(1, 0, "") == 0
        for n in range(2, 7):
            line.verdict(f"A-{n}", "ok")
        await plc.until(TOP, m.RESULT_NO, 6)
    async with running(line, "plc", PLC % "") as bridge, plc_of(bridge) as plc:
        assert await plc.one(TOP, m.ACK) == 1
        assert await plc.write_all(1, 1, "A-7") == 0
        await until(lambda: [t["part_id"] for t in line.triggers] == ["A-7"])
        assert await plc.write_all(4, 1, "A-7") == ExcCodes.ILLEGAL_VALUE, "nor is any other number taken"


async def test_a_plc_that_writes_its_whole_block_in_each_cycle_does_not_wear_out_the_disk(
    line: BridgeLine,
) -> None:
    """Each of its writes, perhaps a hundred a second, replaced a file with the same one."""
    async with running(line, "plc", PLC % "") as bridge, plc_of(bridge) as plc:
        assert await plc.write_all(0, 1, "A-1") == 0
        file = bridge.link.state_dir / "top.json"
        written = file.stat().st_mtime_ns
        for _ in range(20):
            assert await plc.write_all(0, 1, "A-1") == 0
        assert file.stat().st_mtime_ns == written
        assert await plc.write_all(0, 2, "A-2") == 0
        assert file.stat().st_mtime_ns > written
        assert json.loads(file.read_text())["trigger_done"] == 2


async def test_after_a_power_cut_no_old_acknowledgement_fits_a_new_result(
    line: BridgeLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The disk had lost the last number, and the PLC wrote it again: nobody saw the reject."""
    async with running(line, "plc", PLC % "") as bridge, plc_of(bridge) as plc:
        file = bridge.link.state_dir / "top.json"
        for n in (1, 2):
            before = file.read_text() if file.exists() else ""
            line.verdict(f"A-{n}", "ng")
            await plc.until(TOP, m.RESULT_NO, n)
            await plc.write_all(n, 0, "")
    file.write_text(json.dumps(json.loads(before) | {"ack": 1}))
    monkeypatch.setattr(modbus_server, "_BOOT_ID", tmp_path / "boot_id")
    (tmp_path / "boot_id").write_text("another\n")
    async with running(line, "plc", PLC % "") as bridge, plc_of(bridge) as plc:
        line.verdict("A-3", "ng")
        await plc.until_bit(TOP, m.NEW)
        shown = await plc.one(TOP, m.RESULT_NO)
        assert shown > 2
        # It was refused, and each trigger with it: the PLC never got another verdict.
        assert await plc.write_all(2, 1, "A-5") == 0
        await until(lambda: [t["part_id"] for t in line.triggers] == ["A-5"])
        assert await plc.one(TOP, m.STATUS) & m.REJECT
        assert await plc.write_all(1, 1, "A-5") == ExcCodes.ILLEGAL_VALUE, "now we know what stands there"
        assert await plc.write_all(shown, 1, "A-5") == 0
        await plc.until_bit(TOP, m.REJECT, False)
        line.verdict("A-4", "ok")
        await plc.until(TOP, m.RESULT_NO, shown + 1)


@pytest.mark.parametrize("state", ["lost", "of an older form"])
async def test_an_acknowledgement_that_is_older_than_the_state_file_stands_and_acknowledges_nothing(
    line: BridgeLine, state: str
) -> None:
    async with running(line, "plc", PLC % "") as bridge, plc_of(bridge) as plc:
        for n in range(1, 7):
            line.verdict(f"A-{n}", "ok")
        await plc.until(TOP, m.RESULT_NO, 6)
        file = bridge.link.state_dir / "top.json"
    if state == "lost":
        file.unlink()
    else:
        file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "ack"}))
    async with running(line, "plc", PLC % "") as bridge, plc_of(bridge) as plc:
        shown = await plc.one(TOP, m.RESULT_NO)
        line.verdict("A-7", "ng")
        await plc.until(TOP, m.RESULT_NO, shown + 1)
        assert await plc.trigger(1, "A-8") == 0
        assert await plc.write_all(4, 2, "A-9") == 0
        await until(lambda: [t["part_id"] for t in line.triggers] == ["A-8", "A-9"])
        assert await plc.one(TOP, m.STATUS) & m.REJECT
        assert await plc.write_all(3, 2, "A-9") == ExcCodes.ILLEGAL_VALUE, "now we know what stands there"
        assert await plc.write_all(shown + 1, 2, "A-9") == 0
        await plc.until_bit(TOP, m.REJECT, False)


async def test_a_result_that_waits_outlives_a_restart_with_its_camera_in_another_mode(
    line: BridgeLine,
) -> None:
    async with running(line, "plc", PLC % "") as bridge, plc_of(bridge) as plc:
        line.defect("side")
        await plc.until(SIDE, m.RESULT_NO, 1)
    triggered = CONFIG.replace("side: {", "side: {frames: every, ")
    async with running(line, "plc", PLC % "", config=triggered) as bridge, plc_of(bridge) as plc:
        await plc.until_bit(SIDE, m.NEW)
        line.verdict("B-1", "ok", camera="side")
        line.verdict("A-1", "ok")
        await plc.until(TOP, m.RESULT_NO, 1)
        assert await plc.read(SIDE, m.VERDICT, 2) == [2, 1]
        assert await plc.write(SIDE, m.ACK, 1) == 0
        await plc.until(SIDE, m.RESULT_NO, 2)
        assert await plc.read(SIDE, m.VERDICT, 1) == [1]
        await until(lambda: bridge.report.delivered == 3)


async def test_a_result_that_waits_outlives_a_restart_after_which_its_event_is_not_wanted(
    line: BridgeLine,
) -> None:
    async with running(line, "plc", PLC % "") as bridge, plc_of(bridge) as plc:
        line.defect("side")
        await plc.until(SIDE, m.RESULT_NO, 1)
    triggered = CONFIG.replace("side: {", "side: {frames: every, ")
    async with (
        running(line, "plc", PLC % ", kinds: [part]", config=triggered) as bridge,
        plc_of(bridge) as plc,
        line.broker.endpoint.client() as client,
    ):
        line.verdict("B-1", "ok", camera="side")
        line.verdict("A-1", "ok")
        await plc.until(TOP, m.RESULT_NO, 1)
        while await pending(client, "bridge-plc") > 1:
            pass
        assert await plc.read(SIDE, m.VERDICT, 2) == [2, 1]
        assert await plc.write(SIDE, m.ACK, 1) == 0
        await plc.until(SIDE, m.RESULT_NO, 2)


async def test_a_trigger_becomes_one_trigger_of_the_line(line: BridgeLine) -> None:
    async with running(line, "plc", PLC % "") as bridge, plc_of(bridge) as plc:
        assert await plc.trigger(1, "A-1042") == 0
        assert await plc.one(TOP, m.TRIGGER_DONE) == 1
        await until(lambda: len(line.triggers) == 1)
        assert await plc.trigger(1, "A-1042") == 0
        assert await plc.trigger(2, "A-1043") == 0
        await until(lambda: len(line.triggers) == 2)
        assert [t["part_id"] for t in line.triggers] == ["A-1042", "A-1043"]
    async with running(line, "plc", PLC % "") as bridge, plc_of(bridge) as plc:
        assert await plc.one(TOP, m.TRIGGER_DONE) == 2
        assert await plc.trigger(2, "A-1043") == 0
        assert await plc.trigger(3, "A-1044") == 0
        await until(lambda: len(line.triggers) == 3)


async def test_a_trigger_that_is_asked_again_while_the_broker_is_slow_is_one_trigger(
    line: BridgeLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PLC that got no answer in time asks over a new connection: its part got two verdicts."""
    async with (
        running(line, "plc", PLC % "") as bridge,
        plc_of(bridge) as plc,
        plc_of(bridge) as again,
    ):
        under_way, broker_answers, send = asyncio.Event(), asyncio.Event(), bridge.link.trigger

        async def slowly(camera: str, part_id: str, job_id: str) -> None:
            under_way.set()
            await broker_answers.wait()
            await send(camera, part_id, job_id)

        monkeypatch.setattr(bridge.link, "trigger", slowly)
        first = asyncio.create_task(plc.trigger(1, "A-1"))
        await under_way.wait()
        assert await again.trigger(1, "A-1") == ExcCodes.DEVICE_BUSY
        assert await again.write(TOP, m.ACK, 0) == 0
        broker_answers.set()
        assert await first == 0
        assert await again.trigger(1, "A-1") == 0
        assert await again.trigger(2, "A-2") == 0
        await until(lambda: [t["part_id"] for t in line.triggers] == ["A-1", "A-2"])


async def test_what_can_not_be_is_refused_and_changes_nothing(line: BridgeLine) -> None:
    async with running(line, "plc", PLC % "") as bridge, plc_of(bridge) as plc:
        line.verdict("A-1", "ng")
        await plc.until(TOP, m.RESULT_NO, 1)
        assert await plc.write(TOP, m.ACK, 0) == 0
        assert await plc.write(TOP, m.ACK, 7) == ExcCodes.ILLEGAL_VALUE
        assert await plc.write(TOP, m.TRIGGER, 5) == ExcCodes.ILLEGAL_VALUE, "a trigger without a part"
        assert await plc.write(SIDE, m.TRIGGER, 5, 0x4100) == ExcCodes.ILLEGAL_VALUE, "not a triggered camera"
        assert await plc.write(TOP, m.STATUS, 0) == ExcCodes.ILLEGAL_ADDRESS
        assert await plc.write(TOP, m.CAMERA_REGISTERS - 1, 0, 0) == ExcCodes.ILLEGAL_ADDRESS
        assert await plc.one(TOP, m.STATUS) & m.REJECT
        assert await plc.read(TOP, m.ACK, 2) == [0, 0]
        assert line.triggers == []


@pytest.mark.parametrize(("on_loss", "reject"), [("reject", True), ("clear", False)])
async def test_a_line_that_is_lost_reads_as_what_the_config_calls_safe(
    line: BridgeLine, on_loss: str, reject: bool
) -> None:
    async with running(line, "plc", PLC % f", on_loss: {on_loss}") as bridge, plc_of(bridge) as plc:
        await plc.until_bit(TOP, m.FAULT, False)
        assert not await plc.one(TOP, m.STATUS) & m.REJECT
        line.alive = False
        await plc.until_bit(TOP, m.FAULT)
        status = await plc.one(TOP, m.STATUS)
        assert (bool(status & m.REJECT), bool(status & m.READY)) == (reject, False)
        beats = await plc.one(0, m.HEARTBEAT)
        await asyncio.gather(bridge.link.changed())
        assert await plc.one(0, m.HEARTBEAT) == beats


async def test_a_result_that_is_out_too_late_says_so(line: BridgeLine) -> None:
    async with running(line, "plc", PLC % "") as bridge, plc_of(bridge) as plc:
        line.verdict("A-1", "ng", asked_s=1_700_000_000.0)
        await plc.until_bit(TOP, m.LATE)
        assert bridge.report.late == 1


async def test_a_port_that_is_taken_is_said_and_waited_for(line: BridgeLine) -> None:
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with running(line, "plc", (PLC % "").replace("127.0.0.1:0", f"127.0.0.1:{port}")) as bridge:
        await until(lambda: bridge.report.trouble is not None)
        assert f"can't listen on 127.0.0.1:{port}" in str(bridge.report.trouble)
        server.close()
        async with plc_of(bridge) as plc:
            await plc.until(0, m.ALIVE, 1)
            assert bridge.report.trouble is None


async def test_a_plc_that_vanished_does_not_keep_its_connection(line: BridgeLine) -> None:
    """One that lost its power says no goodbye; each of its restarts left a connection for ever."""
    async with running(line, "plc", PLC % "") as bridge, plc_of(bridge) as plc:
        assert await plc.one(TOP, m.RESULT_NO) == 0
        assert isinstance(bridge.sink, ModbusSink)
        port = bridge.sink.port
        await until(lambda: asks_whether_its_peers_are_there(port))
