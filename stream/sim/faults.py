"""What a camera can do wrong, on demand. Pure: times are given."""

import random
from dataclasses import dataclass, field

SECONDS = ("stall", "freeze", "garbage", "refuse")
SHARES = ("drop", "lose")
NAMES = (*SECONDS, *SHARES, "kill")


class BadFault(ValueError):
    """No such fault, or no such value; the text says what is possible."""


@dataclass(slots=True)
class Faults:
    """`stall`, `freeze`, `garbage`, `refuse` last some seconds; `drop` and `lose` are shares until set again.

    stall: connections stay, nothing is sent · freeze: the same picture over and over, with new time stamps ·
    garbage: damaged H.264 · refuse: connections are closed, new ones too · drop: pictures · lose: RTP
    packets · kill: all connections are cut once, in the middle of a picture.
    """

    until_s: dict[str, float] = field(default_factory=dict)
    share: dict[str, float] = field(default_factory=dict)

    def set(self, name: str, value: str, now_s: float) -> None:
        """Raises BadFault."""
        number = _number(name, value)
        if name in SECONDS:
            self.until_s[name] = now_s + number
        elif name in SHARES and number <= 1:
            self.share[name] = number
        elif name not in NAMES or name in SHARES:
            raise BadFault(
                f"{name}={value}: want one of {', '.join(SECONDS)} in seconds, drop or lose from 0 to 1, kill"
            )

    def on(self, name: str, now_s: float) -> bool:
        """Whether a fault that lasts is on."""
        return now_s < self.until_s.get(name, float("-inf"))

    def hits(self, name: str, rng: random.Random) -> bool:
        """Whether a fault that strikes a share strikes now."""
        share = self.share.get(name, 0.0)
        return share > 0 and rng.random() < share


def _number(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e6:
        raise BadFault(f"{name}={value}: want a number of seconds, or a share from 0 to 1")
    return number


def damaged(nals: list[bytes], rng: random.Random) -> list[bytes]:
    """The same NAL units with bytes flipped and ends cut off; never empty ones."""
    return [_damage(nal, rng) for nal in nals]


def _damage(nal: bytes, rng: random.Random) -> bytes:
    body = bytearray(nal)
    for _ in range(1 + len(body) // 200):
        body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    keep = len(body) if rng.random() < 0.7 else rng.randrange(1, len(body) + 1)
    return bytes(body[:keep])


def parse_size(text: str) -> tuple[int, int]:
    """`640x480` → (640, 480). Raises BadFault for another form, odd sides, or sides out of 64 to 4096."""
    width, _, height = text.lower().partition("x")
    if not all(side.isascii() and side.isdigit() for side in (width, height)):
        raise BadFault(f"size {text}: want WIDTHxHEIGHT, such as 640x480")
    size = int(width), int(height)
    if not all(64 <= side <= 4096 and side % 2 == 0 for side in size):
        raise BadFault(f"size {text}: both sides must be even and from 64 to 4096")
    return size
