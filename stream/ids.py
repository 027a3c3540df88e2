"""Identifiers that sort by time: UUID version 7 (RFC 9562, section 5.7)."""

import secrets
import threading
import time
from collections.abc import Callable

_COUNTER_BITS = 12


class Uuid7:
    """Makes UUIDv7 strings that rise strictly within one process, even when the clock is set back.

    48 bits of Unix milliseconds, 12 bits of counter (RFC 9562, 6.2, method 1), 62 random bits. May be called
    from any thread.
    """

    def __init__(self, now_s: Callable[[], float] = time.time) -> None:
        self._now_s = now_s
        self._last = 0
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            self._last = max(self._last + 1, int(self._now_s() * 1000) << _COUNTER_BITS)
            stamp = self._last
        milliseconds, counter = stamp >> _COUNTER_BITS, stamp & 0xFFF
        value = (milliseconds & (1 << 48) - 1) << 80 | 7 << 76 | counter << 64
        value |= 2 << 62 | secrets.randbits(62)
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


new_id = Uuid7()
