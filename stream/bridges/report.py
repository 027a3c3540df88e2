"""What a bridge tells of itself, and the line exports: counts since its start, and how late it was."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from engine.meter import SECONDS_BOUNDS

from ..events import Event

EXPIRES_S = 10
_LONGEST_STAMP = 15  # digits of milliseconds: no number of this length is too large
# JSON may hold numbers that no metric can.
_MOST = 1 << 53


def group_of(bridge: str) -> str:
    """The consumer group of a bridge."""
    return f"bridge-{bridge}"


@dataclass(slots=True)
class Report:
    """One bridge since its start. `to_output`: events by seconds from capture to the output (SECONDS_BOUNDS
    and one more), `late`: verdicts that were out later than `verdict_within_ms` after their trigger.
    """

    delivered: int = 0
    failed: int = 0
    dead: int = 0
    repeated: int = 0
    lost: int = 0
    late: int = 0
    held: int = 0
    trouble: str | None = None
    to_output: list[int] = field(default_factory=lambda: [0] * (len(SECONDS_BOUNDS) + 1))
    to_output_s: float = 0.0

    def took(self, seconds: float) -> None:
        """An event was out so long after its picture was captured."""
        self.to_output[sum(seconds > bound for bound in SECONDS_BOUNDS)] += 1
        self.to_output_s += max(0.0, seconds)

    def json_text(self) -> str:
        """For the broker."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def parse(cls, text: bytes | str) -> "Report | None":
        """None for what is no report of this version."""
        try:
            told: Any = json.loads(text)
            made = cls(**told)
        except (ValueError, TypeError, RecursionError):
            return None
        whole = [made.delivered, made.failed, made.dead, made.repeated, made.lost, made.late, made.held]
        counts = [*whole, *made.to_output] if isinstance(made.to_output, list) else [None]
        well = all(_fits(count, int) for count in counts) and _fits(made.to_output_s, int | float)
        return made if well and len(made.to_output) == len(SECONDS_BOUNDS) + 1 else None


def _fits(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and 0 <= value <= _MOST


def verdict_late_s(event: Event, now_s: float, within_ms: float) -> float:
    """By how many seconds a verdict is out later than `within_ms` after its trigger; 0: in time, or none.

    The trigger's moment is the one in its entry's id: the broker's clock.
    """
    stamp = str(event.detail.get("trigger", "")).partition("-")[0]
    if event.kind != "part" or not stamp.isdecimal() or len(stamp) > _LONGEST_STAMP:
        return 0.0
    return max(0.0, now_s - int(stamp) / 1000.0 - within_ms / 1000.0)
