"""What a PLC does, with pymodbus, at the camera station whose block begins at register 100:

    python modbus_plc.py 127.0.0.1 5020 100 A-1 A-2     triggers one part after the other (`frames: every`)
    python modbus_plc.py 127.0.0.1 5020 100 watch       takes results as they come, until Ctrl-C

Every result is printed and acknowledged, first of all one that stands there from before: until it is taken,
the bridge shows no other. Needs pymodbus alone. The registers are explained in bridges.md.
"""

import contextlib
import logging
import sys
import time
from collections.abc import Callable
from typing import Any

from pymodbus import ModbusException
from pymodbus.client import ModbusTcpClient

ACK, TRIGGER = 32, 33
REJECT, WAITS = 1 << 2, 1 << 3
VERDICTS = {1: "ok", 2: "ng", 3: "unknown"}
WITHIN_S = 10.0  # a real PLC takes a little more than parts.verdict_within_ms
REFUSED = {
    (TRIGGER, 3): "camera station {} takes no triggers: it needs `frames: every` in the config",
    (TRIGGER, 6): "the trigger at station {} can't be passed on: the line's broker is away, try again later",
    (ACK, 3): "station {} shows another result by now: does a second PLC acknowledge here?",
}


def text(words: list[int]) -> str:
    """Two characters a register, up to the first zero."""
    return b"".join(word.to_bytes(2, "big") for word in words).partition(b"\0")[0].decode()


def words(value: str, registers: int) -> list[int]:
    """The way back."""
    data = value.encode().ljust(2 * registers, b"\0")
    return [int.from_bytes(data[n : n + 2], "big") for n in range(0, 2 * registers, 2)]


class Station:
    """One camera's block. While nobody answers it asks again: the bridge may just be starting."""

    def __init__(self, host: str, port: int, block: int) -> None:
        self._plc = ModbusTcpClient(host, port=port, timeout=1, retries=0)
        self._at, self._block = f"{host}:{port}", block
        self._taken = self.read()[2]

    def read(self) -> list[int]:
        """The registers that the bridge writes, all of one moment."""
        found = self._ask(lambda: self._plc.read_holding_registers(self._block, count=32), 0)
        return list(found.registers)

    def write(self, offset: int, *values: int) -> None:
        """Sent again where the answer is lost: an old number changes nothing."""
        self._ask(lambda: self._plc.write_registers(self._block + offset, list(values)), offset)

    def next_part(self, until_s: float) -> str | None:
        """Take the next result; the part that it is about, or None when there was none until then."""
        while time.monotonic() < until_s:
            registers = self.read()
            # What waits is new under its old number too: then it was shown before we came.
            if registers[2] != self._taken or registers[0] & WAITS:
                return self._take(registers)
            time.sleep(0.01)
        return None

    def _take(self, registers: list[int]) -> str:
        self._taken, part = registers[2], text(registers[16:32])
        reject = bool(registers[0] & REJECT)  # act on it before it is acknowledged
        sys.stdout.write(f"{self._taken} {part or '-'} {VERDICTS[registers[1]]} reject={reject}\n")
        sys.stdout.flush()
        if registers[0] & WAITS:
            self.write(ACK, self._taken)
        return part

    def _ask(self, request: Callable[[], Any], offset: int) -> Any:
        until_s = time.monotonic() + WITHIN_S
        while True:
            with contextlib.suppress(ModbusException):
                answer = request()
                break
            if time.monotonic() > until_s:
                sys.exit(f"nobody answers at {self._at} for {WITHIN_S:g} s: is the Modbus bridge running?")
            time.sleep(0.2)
        if answer.isError():
            why = "there is no camera station at register {}: look at `stations` in the config"
            sys.exit(REFUSED.get((offset, answer.exception_code), why).format(self._block))
        return answer


def trigger(station: Station, parts: list[str]) -> None:
    """Ends when each part has its verdict."""
    while station.read()[0] & WAITS:
        station.next_part(time.monotonic() + WITHIN_S)
    number = station.read()[12]  # go on from the last trigger that the bridge has taken
    for part in parts:
        number = number % 65535 + 1
        station.write(TRIGGER, number, *words(part, 16))
        until_s, about = time.monotonic() + WITHIN_S, None
        while about != part:  # an older result may still be before ours
            about = station.next_part(until_s)
            if about is None:
                sys.exit(f"no verdict on part {part} within {WITHIN_S:g} s: is `linewatch run` up?")


def main(host: str, port: int, block: int, parts: list[str]) -> None:
    """Trigger parts, or only watch."""
    logging.disable()  # pymodbus has its own words for what we say
    station = Station(host, port, block)
    if parts != ["watch"]:
        return trigger(station, parts)
    while True:
        station.next_part(float("inf"))


if __name__ == "__main__":
    if len(sys.argv) < 5 or not all(word.isdecimal() for word in sys.argv[2:4]):
        sys.exit("say where and what: modbus_plc.py HOST PORT REGISTER PART... (or `watch` for parts)")
    if wrong := [part for part in sys.argv[4:] if not (part.isascii() and 0 < len(part) <= 32)]:
        sys.exit(f"{wrong[0]!r} can't be a part id: write 1 to 32 ASCII characters")
    with contextlib.suppress(KeyboardInterrupt):
        main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
