"""What a PLC does, with pymodbus: `python modbus_plc.py 127.0.0.1 5020 100 A-1 A-2`

Triggers one part after the other at the station whose block begins at register 100, waits for each verdict,
acts and acknowledges. Needs pymodbus alone. The registers are explained in deploy/bridges.md.
"""

import sys
import time

from pymodbus.client import ModbusTcpClient

ACK, TRIGGER = 32, 33
VERDICTS = {1: "ok", 2: "ng", 3: "unknown"}


def text(words: list[int]) -> str:
    """Two characters a register, up to the first zero."""
    return b"".join(word.to_bytes(2, "big") for word in words).partition(b"\0")[0].decode()


def words(value: str, registers: int) -> list[int]:
    """The way back."""
    data = value.encode().ljust(2 * registers, b"\0")
    return [int.from_bytes(data[n : n + 2], "big") for n in range(0, 2 * registers, 2)]


def main(host: str, port: int, block: int, parts: list[str]) -> None:
    """Ends when each part has its verdict."""
    plc = ModbusTcpClient(host, port=port)
    plc.connect()
    registers = plc.read_holding_registers(block, count=32).registers
    result, trigger = registers[2], registers[12]  # go on from where we, or the bridge, stopped
    for part in parts:
        trigger = trigger % 65535 + 1
        answer = plc.write_registers(block + TRIGGER, [trigger, *words(part, 16)])
        if answer.isError():
            sys.exit(f"the trigger of {part} is refused: {answer}")
        while registers[2] == result:  # a real PLC has its own time limit, and looks at the heartbeat
            time.sleep(0.01)
            registers = plc.read_holding_registers(block, count=32).registers
        result = registers[2]
        reject = bool(registers[0] & 4)
        sys.stdout.write(f"{result} {text(registers[16:32])} {VERDICTS[registers[1]]} reject={reject}\n")
        plc.write_register(block + ACK, result)
    plc.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
