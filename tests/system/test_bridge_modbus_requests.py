"""The Modbus bridge and what comes over one connection: several requests at once, in pieces, nonsense."""

import asyncio
import contextlib
import errno
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from pymodbus.constants import ExcCodes

from stream.bridges import modbus_map as m
from stream.bridges import modbus_server
from stream.bridges.modbus_server import ModbusSink
from tests.bridgeline import BridgeLine, running
from tests.brokers import until, valkey

PLC = 'plc: {type: modbus, listen: "127.0.0.1:0", stations: {top: {address: 100}}}'
TOP = 100


@pytest_asyncio.fixture
async def line(tmp_path: Path) -> AsyncIterator[BridgeLine]:
    async with valkey(tmp_path / "broker") as broker, BridgeLine(broker, tmp_path) as line:
        yield line


class Wire:
    """A client that sends whatever it likes, whenever it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.send = reader, writer.write

    async def answer(self) -> tuple[int, bytes]:
        """The next one: its transaction, and what stands behind the unit."""
        head = await self._reader.readexactly(6)
        body = await self._reader.readexactly(int.from_bytes(head[4:]))
        return int.from_bytes(head[:2]), body[1:]

    async def ask(self, request: bytes) -> bytes:
        """What stands behind the unit in the answer."""
        self.send(request)
        return (await self.answer())[1]

    async def end(self) -> bytes:
        """What still comes until the bridge closes the connection."""
        return await self._reader.read()


def request(transaction: int, *body: int) -> bytes:
    return transaction.to_bytes(2) + b"\0\0" + (1 + len(body)).to_bytes(2) + bytes([1, *body])


def reads(transaction: int, register: int, count: int = 1) -> bytes:
    return request(transaction, 3, *register.to_bytes(2), *count.to_bytes(2))


def writes(transaction: int, register: int, values: Sequence[int]) -> bytes:
    data = b"".join(value.to_bytes(2) for value in values)
    return request(transaction, 16, *register.to_bytes(2), *len(values).to_bytes(2), len(data), *data)


def triggers(transaction: int, number: int, part: str) -> bytes:
    return writes(transaction, TOP + m.TRIGGER, [number, *m.text_registers(part, m.PART_REGISTERS)])


@contextlib.asynccontextmanager
async def serving(line: BridgeLine) -> AsyncIterator[ModbusSink]:
    async with running(line, "plc", PLC) as bridge:
        sink = bridge.sink
        assert isinstance(sink, ModbusSink)
        await until(lambda: sink.port > 0)
        yield sink


@contextlib.asynccontextmanager
async def wire_to(sink: ModbusSink) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", sink.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


async def test_requests_that_come_together_are_all_carried_out_in_their_order(line: BridgeLine) -> None:
    """Of two one was lost, or carried out twice in place of the other."""
    async with serving(line) as sink, wire_to(sink) as wire:
        together = (
            reads(1, 0) + triggers(2, 1, "A-1") + reads(3, TOP + m.TRIGGER_DONE) + triggers(4, 2, "A-2")
        )
        wire.send(together + reads(5, TOP + m.TRIGGER_DONE))
        answers = [await wire.answer() for _ in range(5)]
        assert [transaction for transaction, _ in answers] == [1, 2, 3, 4, 5]
        assert [body[-1] for _, body in answers[::2]] == [m.MAP_VERSION, 1, 2]
        await until(lambda: [t["part_id"] for t in line.triggers] == ["A-1", "A-2"])
        for byte in reads(6, 0):
            wire.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await wire.answer())[0] == 6


async def test_an_answer_that_comes_late_is_not_the_next_request_s(
    line: BridgeLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trigger that waited for the broker was answered under the number of what the PLC had asked since."""
    async with serving(line) as sink, wire_to(sink) as wire, wire_to(sink) as other:
        under_way, broker_answers, link = asyncio.Event(), asyncio.Event(), sink._line
        send = link.trigger

        async def slowly(camera: str, part_id: str, job_id: str) -> None:
            under_way.set()
            await broker_answers.wait()
            await send(camera, part_id, job_id)

        monkeypatch.setattr(link, "trigger", slowly)
        wire.send(triggers(7, 1, "A-1"))
        await under_way.wait()
        wire.send(reads(8, 0))
        other.send(reads(1, 0))
        await other.answer()  # so the other one has come, too
        broker_answers.set()
        first, second = await wire.answer(), await wire.answer()
        assert (first[0], first[1][0]) == (7, 16)
        assert (second[0], second[1][0]) == (8, 3)


async def test_a_trigger_that_the_broker_takes_after_the_plc_was_told_that_it_is_away_is_asked_under_one_id(
    line: BridgeLine,
) -> None:
    """By its id the line knows it again, however long the broker was away."""
    async with serving(line) as sink, wire_to(sink) as wire:
        # By a connection that stands already: what is written to it reaches the broker, however late.
        assert (await wire.ask(triggers(1, 1, "A-0")))[0] == 16
        assert line.broker.pid is not None
        os.kill(line.broker.pid, signal.SIGSTOP)
        try:
            assert await wire.ask(triggers(1, 2, "A-1")) == bytes([0x90, ExcCodes.DEVICE_BUSY])
        finally:
            os.kill(line.broker.pid, signal.SIGCONT)
        while (await wire.ask(triggers(2, 2, "A-1")))[0] != 16:
            pass
        assert (await wire.ask(triggers(3, 3, "A-2")))[0] == 16
        await until(lambda: line.triggers[-1:] != [] and line.triggers[-1]["part_id"] == "A-2")
        before, *asked_again, after = [t["id"] for t in line.triggers]
        assert len(asked_again) > 1 and len({before, *asked_again, after}) == 3


async def test_a_disk_that_is_full_makes_no_trigger_of_an_acknowledgement(
    line: BridgeLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part before was triggered once more with it: its old trigger still stood in the registers."""

    def refuses(path: Path, value: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with serving(line) as sink, wire_to(sink) as wire:
        line.verdict("A-0", "ng")
        while (await wire.ask(reads(1, TOP + m.RESULT_NO)))[-1] != 1:
            pass
        assert await wire.ask(triggers(2, 1, "A-1")) == bytes([16, *(TOP + m.TRIGGER).to_bytes(2), 0, 17])
        with monkeypatch.context() as full:
            full.setattr(modbus_server, "write_json", refuses)
            assert await wire.ask(triggers(3, 2, "A-2")) == bytes([0x90, ExcCodes.DEVICE_BUSY])
            assert (await wire.ask(writes(4, TOP + m.ACK, [1])))[0] == 0x90
        assert (await wire.ask(writes(5, TOP + m.ACK, [1])))[0] == 16
        assert (await wire.ask(triggers(6, 2, "A-2")))[0] == 16
        assert (await wire.ask(triggers(7, 3, "A-3")))[0] == 16
        await until(lambda: line.triggers[-1:] != [] and line.triggers[-1]["part_id"] == "A-3")
        assert [t["part_id"] for t in line.triggers] == ["A-1", "A-2", "A-3"]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"\0\1\0\0\xff\xff\1\3",
        b"\0\1\0\0\0\1\1\3",
    ],
)
async def test_what_is_no_modbus_ends_its_connection_and_nothing_else(
    line: BridgeLine, nonsense: bytes
) -> None:
    async with serving(line) as sink, wire_to(sink) as wire, wire_to(sink) as other:
        wire.send(nonsense)
        assert await wire.end() == b""
        other.send(request(1, 99) + reads(2, 0))
        assert (await other.answer())[1][0] & 0x80, "no function of ours"
        assert (await other.answer())[0] == 2
