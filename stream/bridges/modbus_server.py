"""The Modbus bridge's server side: registers made when they are asked for, writes carried out or refused."""

import asyncio
import json
import logging
import time
from pathlib import Path
from typing import Any, get_args

from pymodbus.constants import ExcCodes
from pymodbus.simulator import DataType, SimData, SimDevice

from ..events import Event, Kind
from . import modbus_map as m
from .modbus import Options
from .modbus_requests import Server
from .progress import write_json
from .report import verdict_late_s
from .sink import Line, PeerAway
from .vanished import end_vanished

log = logging.getLogger(__name__)

# Results of the last seconds before a power cut, whose numbers the disk may not have. A PLC that still writes
# its last acknowledgement would acknowledge another result by it, which nobody has seen.
_FORGOTTEN = 256
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

# Read holding or input registers (the same here), write one or several.
_FUNCTIONS = (3, 4, 6, 16)


class _Post:
    """A station, where it stands, what the PLC last wrote there, and who waits for its acknowledgement."""

    def __init__(self, name: str, address: int, station: m.Station, line: Line) -> None:
        self.name, self.address, self.station = name, address, station
        self.written = [0] * (m.CAMERA_REGISTERS - m.ACK)
        # None: what the PLC last wrote to ACK is not known; its registers are older than our file, or newer.
        self.ack: int | None = None
        self.writable = range(address + m.ACK, address + m.CAMERA_REGISTERS)
        self.acked = asyncio.Event()
        # A trigger is under way to the line: one at a time.
        self.triggers = False
        self._file = line.state_dir / f"{name}.json"
        self._kept: dict[str, Any] = {}
        self._boot = _boot_id()

    def restore(self) -> None:
        """A file that can't be read is none; then numbers begin at 1."""
        try:
            state = json.loads(self._file.read_text())
            self.station.restore(state)
            if state.get("boot", self._boot) != self._boot:
                self.station.skip = _FORGOTTEN
            elif (ack := state.get("ack")) is not None:  # an older form of the file has none
                self.ack = int(ack) & 0xFFFF
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("%s can't be read (%s); result numbers begin anew", self._file, error)
        self.written[0] = self.ack or 0
        self.written[m.TRIGGER - m.ACK] = self.station.trigger_done

    async def taken(self) -> None:
        """Returns when the shown result, if it waits for an acknowledgement, has got it."""
        while not self.station.shown.acked:
            self.acked.clear()
            await self.acked.wait()

    def keep(self, ack: int | None) -> None:
        """`ack` is what stands in ACK. Raises PeerAway: what a restart would forget is done again.

        Only what is new is written: a PLC that copies its block in each cycle would wear out the disk.
        """
        if (state := self.station.state() | {"ack": ack, "boot": self._boot}) == self._kept:
            return
        try:
            write_json(self._file, state)
        except OSError as error:
            raise PeerAway(f"{self._file} can't be written: {error.strerror}") from None
        self._kept = state


def _boot_id() -> str:
    """Another one after each start of the machine; empty where there is none."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


class ModbusSink:
    """A Sink. A result stands in the registers until the PLC acknowledges it, or the next one comes where
    none is wanted; only then it is acknowledged in the stream.
    """

    def __init__(self, options: Options, line: Line) -> None:
        self._options, self._line = options, line
        self._posts = {
            name: _Post(name, chosen.address, self._station(name), line)
            for name, chosen in options.stations.items()
        }
        for post in self._posts.values():
            post.restore()
        self._beats = 0
        self._up = asyncio.Event()
        self._port = 0

    def _station(self, name: str) -> m.Station:
        options = self._options
        return m.Station(
            triggered=name in self._line.triggered,
            handshake=options.handshake,
            on_loss=options.on_loss,
            sees_all=set(options.kinds) == set(get_args(Kind)),
        )

    @property
    def port(self) -> int:
        """The port that is listened on, for `listen: …:0`; valid while `run` serves."""
        return self._port

    async def run(self) -> None:
        host, _, port = self._options.listen.rpartition(":")
        server = Server(self._device(), address=(host.strip("[]"), int(port)))
        try:
            await server.serve_forever(background=True)
            sockets = server.transport.sockets  # type: ignore[attr-defined]
            end_vanished(sockets)
            self._port = int(sockets[0].getsockname()[1])
            self._up.set()
            self._line.peer_is_there()
            while True:
                await self._line.changed()
                self._beats = (self._beats + self._line.alive) & 0xFFFF
        except RuntimeError:
            raise PeerAway(
                f"Modbus can't listen on {self._options.listen}: is the port free, and may we have it?"
            ) from None
        finally:
            self._up.clear()
            await server.shutdown()  # type: ignore[no-untyped-call]

    def _device(self) -> SimDevice:
        blocks = [(self._options.line_address, m.LINE_REGISTERS)]
        blocks += [(post.address, m.CAMERA_REGISTERS) for post in self._posts.values()]
        data = [SimData(at, count=n, values=0, datatype=DataType.REGISTERS) for at, n in sorted(blocks)]
        return SimDevice(0, simdata=data, action=self._asked)

    # -- events --------------------------------------------------------------------------------------

    async def deliver(self, event: Event) -> None:
        post = self._posts.get(event.camera)
        if post is None:
            return
        await self._up.wait()
        if post.station.notice(event):
            post.keep(post.ack)
        if post.station.shown.event_id != event.id:
            if not post.station.is_result(event):
                return
            # What stood here before a restart need not come again: its camera's mode or our `kinds` changed.
            await post.taken()
        late = verdict_late_s(event, time.time(), self._line.verdict_within_ms) > 0
        post.station.show(event, late, avoid=post.written[0])
        post.keep(post.ack)
        self._line.out(event)
        await post.taken()

    # -- what the PLC asks and writes ----------------------------------------------------------------

    async def _asked(
        self, function: int, start: int, address: int, count: int, registers: list[int], values: Any
    ) -> ExcCodes | None:
        """pymodbus' action: called before each access, with its own copy of all registers from `start`."""
        if function not in _FUNCTIONS:
            return ExcCodes.ILLEGAL_FUNCTION
        if values is None:
            self._refresh(registers, start, range(address, address + count))
            return None
        try:
            return await self._written(address, list(values))
        except m.Refused as refused:
            log.warning("the PLC's write to register %d is refused: %s", address, refused)
            return ExcCodes.ILLEGAL_VALUE
        except PeerAway as away:
            log.warning("the PLC's write to register %d can't be carried out: %s", address, away)
            return ExcCodes.DEVICE_BUSY

    def _refresh(self, registers: list[int], start: int, asked: range) -> None:
        """What is asked for as it is now: a request of several registers sees one moment."""
        line, alive = self._line, self._line.alive
        told = {m.VERSION: m.MAP_VERSION, m.HEARTBEAT: self._beats, m.ALIVE: int(alive)}
        told[m.CAMERAS] = len(self._posts)
        for offset, value in told.items():
            registers[self._options.line_address + offset - start] = value
        for post in self._posts.values():
            if post.address >= asked.stop or post.writable.stop <= asked.start:
                continue
            base = post.address - start
            for offset, value in post.station.registers(line.status(post.name), alive).items():
                registers[base + offset] = value
            registers[base + m.ACK : base + m.CAMERA_REGISTERS] = post.written

    async def _written(self, address: int, values: list[int]) -> ExcCodes | None:
        """All of a write or nothing of it."""
        post = next((p for p in self._posts.values() if address in p.writable), None)
        if post is None or address + len(values) > post.writable.stop:
            return ExcCodes.ILLEGAL_ADDRESS
        at = address - post.writable.start
        after = [*post.written[:at], *values, *post.written[at + len(values) :]]
        if not at <= m.TRIGGER - m.ACK < at + len(values):
            # Not what stands there: where the disk refused to note a trigger, that is still the one before.
            after[m.TRIGGER - m.ACK] = post.station.trigger_done
        await self._carry_out(post, after, writes_ack=at == 0)
        post.written[at : at + len(values)] = values
        return None

    async def _carry_out(self, post: _Post, after: list[int], *, writes_ack: bool) -> None:
        """`after` is what stands in the registers from ACK on then. Raises Refused or PeerAway; then nothing
        was changed.
        """
        number, ack = after[m.TRIGGER - m.ACK], after[0]
        acknowledges = (
            writes_ack
            and ack != post.written[0]
            and post.station.acknowledges(ack, may_stand=post.ack is None)
        )
        if number not in (0, post.station.trigger_done):
            await self._trigger(post, after)
        stands = ack if writes_ack else post.ack
        if acknowledges:
            post.station.ack(ack)
        post.station.trigger_done = number
        post.keep(stands)
        post.ack = stands
        if acknowledges:
            post.acked.set()

    async def _trigger(self, post: _Post, after: list[int]) -> None:
        if post.name not in self._line.triggered:
            raise m.Refused(f"camera {post.name} takes no triggers; it needs frames: every")
        job_at = m.TRIGGER_JOB - m.ACK
        part = m.registers_text(after[m.TRIGGER_PART - m.ACK : job_at])
        job = m.registers_text(after[job_at : job_at + m.JOB_REGISTERS])
        if not part:
            raise m.Refused("a trigger without a part id")
        if post.triggers:
            # A PLC that got no answer in time asks again: its part would get two verdicts.
            raise PeerAway("another trigger of this station is still under way to the broker")
        post.triggers = True
        try:
            await self._line.trigger(post.name, part, job)
        finally:
            post.triggers = False
