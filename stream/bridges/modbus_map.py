"""The register map, and one camera's side of the handshake with a PLC. Pure.

Holding registers of 16 bits; numbers of 32 bits stand high word first; texts two characters a register, the
first one in the high byte, filled up with zeros. LINE and CAMERA are offsets from a block's address.
deploy/bridges.md explains them to who programs the PLC; MAP_VERSION grows when one of them changes.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from ..events import Event, Severity, Verdict
from .sink import Status

MAP_VERSION = 1
LINE_REGISTERS, CAMERA_REGISTERS = 8, 64

# The line's block.
VERSION, HEARTBEAT, ALIVE, CAMERAS = range(4)

# A camera's block, which we write…
STATUS, VERDICT, RESULT_NO, ERROR, OK_COUNT, NG_COUNT, RATIO, SEVERITY = 0, 1, 2, 3, 4, 6, 8, 9
PROCESSING_MS, MODEL, TRIGGER_DONE, PART = 10, 11, 12, 16
# …and which the PLC writes.
ACK, TRIGGER, TRIGGER_PART, TRIGGER_JOB = 32, 33, 34, 50
PART_REGISTERS, JOB_REGISTERS = 16, 8

# Bits of STATUS.
READY, BUSY, REJECT, NEW, DEFECT_OPEN, LATE, FAULT = (1 << n for n in range(7))

_VERDICTS: dict[Verdict, int] = {"ok": 1, "ng": 2, "unknown": 3}
_SEVERITIES: dict[Severity, int] = {"minor": 1, "major": 2, "critical": 3}
_MOST_OPEN = 64

Handshake = Literal["reject", "every"]
OnLoss = Literal["reject", "hold", "clear"]


class Refused(Exception):
    """What the PLC wrote can't be; nothing was changed. The text is for our log."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The result that stands in the registers; `number` 0: none yet."""

    number: int = 0
    event_id: str = ""
    verdict: Verdict = "unknown"
    part_id: str = ""
    ratio: float = 0.0
    severity: Severity = "minor"
    late: bool = False
    wants_ack: bool = False
    acked: bool = True


class Station:
    """One camera. Keep `state` after whatever changes it, and `restore` it after a restart."""

    def __init__(
        self,
        *,
        triggered: bool,
        handshake: Handshake = "reject",
        on_loss: OnLoss = "reject",
        sees_all: bool = True,
    ) -> None:
        """`sees_all`: no kind of event is kept from it, so that a gap in their numbers is a loss."""
        self.shown = Shown()
        self.trigger_done = 0
        # So many numbers are left out before the next result: perhaps they were used, and forgotten.
        self.skip = 0
        self._triggered, self._handshake, self._on_loss = triggered, handshake, on_loss
        self._sees_all = sees_all
        self._open: dict[str, None] = {}
        self._seq: int | None = None

    def state(self) -> dict[str, Any]:
        """For a JSON file."""
        return {
            "shown": asdict(self.shown),
            "trigger_done": self.trigger_done,
            "skip": self.skip,
            "open": list(self._open),
            "seq": self._seq if self._open else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Raises TypeError, KeyError or ValueError for what is no state."""
        shown, done = Shown(**state["shown"]), int(state["trigger_done"])
        self.shown, self.trigger_done = shown, done
        self.skip = int(state.get("skip", 0))
        self._open = {str(defect): None for defect in state["open"]}
        seq = state.get("seq")  # an older form has none
        self._seq = None if seq is None else int(seq)

    def notice(self, event: Event) -> bool:
        """Which incidents are open; True when that is to be kept. Where events were lost nobody knows which
        have closed since: they are forgotten, and what is open still says so with its next update.
        """
        before, last = dict(self._open), self._seq
        if self._sees_all and last is not None and event.seq not in (last, last + 1):
            self._open.clear()
        self._seq = event.seq
        if event.kind == "defect" and event.phase == "close":
            self._open.pop(event.defect_id, None)
        elif event.kind == "defect" and len(self._open) < _MOST_OPEN:
            self._open[event.defect_id] = None
        return self._open != before or (bool(self._open) and self._seq != last)

    def is_result(self, event: Event) -> bool:
        """A verdict on a part; of a camera that is not triggered, a defect that opens."""
        if self._triggered:
            return event.kind == "part"
        return event.kind == "defect" and event.phase == "open"

    def show(self, event: Event, late: bool, avoid: int = 0) -> None:
        """A result to the registers. The same event again keeps its number and its acknowledgement.

        `avoid` is the acknowledgement that the PLC wrote last: a result that took this number, 65,535 later,
        would be acknowledged before anybody has seen it.
        """
        if event.id == self.shown.event_id:
            return
        wants_ack = self._handshake == "every" or event.verdict != "ok"
        number, self.skip = (self.shown.number + self.skip) % 0xFFFF + 1, 0
        self.shown = Shown(
            number if number != avoid else number % 0xFFFF + 1,
            event.id,
            event.verdict,
            "" if event.part_id == "NA" else event.part_id,
            event.score_ratio or 0.0,
            event.severity,
            late,
            wants_ack,
            acked=not wants_ack,
        )

    def acknowledges(self, number: int, may_stand: bool = False) -> bool:
        """Whether this number is the shown result's. 0 and the one before say nothing: a PLC may write all of
        its registers again and again. Raises Refused for any other number, unless it `may_stand` there from
        before our time: then it says nothing either.
        """
        if not may_stand and number not in (self.shown.number, 0, (self.shown.number - 2) % 0xFFFF + 1):
            raise Refused(f"result {number} is acknowledged, but {self.shown.number} is shown")
        return number == self.shown.number != 0

    def ack(self, number: int) -> None:
        """The PLC has taken result `number`, if that is still the one that is shown."""
        if number == self.shown.number:
            self.shown = replace(self.shown, acked=True)

    def registers(self, status: Status, alive: bool) -> dict[int, int]:
        """What we write, by offset."""
        shown = self.shown
        out = {
            STATUS: self._status(status, alive),
            VERDICT: _VERDICTS[shown.verdict] if shown.number else 0,
            RESULT_NO: shown.number,
            ERROR: _number(status, "error_code"),
            RATIO: _clamped(shown.ratio * 1000),
            SEVERITY: _SEVERITIES[shown.severity] if shown.number and shown.verdict == "ng" else 0,
            PROCESSING_MS: _number(status, "processing_ms"),
            MODEL: _clamped(_version(status.get("model_version", ""))),
            TRIGGER_DONE: self.trigger_done,
        }
        for at, key in ((OK_COUNT, "ok_count"), (NG_COUNT, "ng_count")):
            out |= _wide(at, _number(status, key, 0xFFFFFFFF))
        return out | dict(enumerate(text_registers(shown.part_id, PART_REGISTERS), PART))

    def _status(self, status: Status, alive: bool) -> int:
        error = _number(status, "error_code") != 0
        ready, busy = status.get("ready") == "1" and alive, status.get("busy") == "1" and alive
        waits = self.shown.wants_ack and not self.shown.acked
        bits = (
            (READY, ready),
            (BUSY, busy),
            (REJECT, self._reject(alive, waits and self.shown.verdict != "ok")),
            (NEW, waits),
            (DEFECT_OPEN, bool(self._open)),
            (LATE, self.shown.late),
            (FAULT, not alive or error),
        )
        return sum(bit for bit, is_set in bits if is_set)

    def _reject(self, alive: bool, latched: bool) -> bool:
        """Latched until acknowledged; while the line can't be relied on, what the config calls safe."""
        if alive or self._on_loss == "hold":
            return latched
        return self._on_loss == "reject"


def text_registers(text: str, registers: int) -> list[int]:
    """ASCII, what is not becomes `?`; cut to the space there is."""
    data = text.encode("ascii", "replace")[: 2 * registers].ljust(2 * registers, b"\0")
    return [data[n] << 8 | data[n + 1] for n in range(0, 2 * registers, 2)]


def registers_text(registers: Iterable[int]) -> str:
    """The way back, up to the first zero; raises Refused for what is not printable ASCII."""
    data = b"".join(register.to_bytes(2, "big") for register in registers).partition(b"\0")[0]
    text = data.decode("ascii", "replace").strip()
    if not (text.isascii() and text.isprintable()):
        raise Refused("a text holds characters that are not printable ASCII")
    return text


def overlapping(blocks: dict[str, range]) -> tuple[str, str] | None:
    """Two blocks that share a register, if any do."""
    in_order = sorted(blocks.items(), key=lambda item: item[1].start)
    for (name, block), (other, behind) in pairwise(in_order):
        if behind.start < block.stop:
            return name, other
    return None


def _number(status: Status, key: str, most: int = 0xFFFF) -> int:
    try:
        return min(most, max(0, round(float(status.get(key, "0")))))
    except (ValueError, OverflowError):
        return 0


def _version(model: str) -> int:
    version = model.rpartition("@")[2]
    return int(version) if version.isdecimal() else 0


def _clamped(value: float) -> int:
    return min(0xFFFF, max(0, round(value)))


def _wide(at: int, value: int) -> dict[int, int]:
    return {at: value >> 16, at + 1: value & 0xFFFF}
