"""Memory that a decoder freed goes back to the system: glibc alone keeps it, a little more with every
reconnect.

FFmpeg asks for aligned blocks of some 100 kB, and every reader thread may get an arena of its own, up to
eight a core. Cameras that reconnect in turns leave holes in them that later requests seldom fit: measured,
what is in use stayed the same while the process grew. Few arenas and a trim now and then bound that.
With another C library (musl, macOS) all this does nothing.
"""

import asyncio
import ctypes
import os
from collections.abc import Callable
from functools import cache

TRIM_EVERY_S = 10.0
_M_ARENA_MAX = -8
# One would make the decoders wait for each other; small blocks come from each thread's own cache anyway.
_ARENAS = 2


def use_few_arenas() -> None:
    """Before the first thread starts. A word of the administrator's (MALLOC_ARENA_MAX) holds."""
    if "MALLOC_ARENA_MAX" not in os.environ and hasattr(_libc(), "mallopt"):
        _libc().mallopt(_M_ARENA_MAX, _ARENAS)


def trim() -> None:
    """Give what is free back to the system. Some milliseconds without the GIL: for a thread."""
    if hasattr(_libc(), "malloc_trim"):
        _libc().malloc_trim(ctypes.c_size_t(0))


async def keep_trimmed(reconnects: Callable[[], int], every_s: float = TRIM_EVERY_S) -> None:
    """Until cancelled: trim, but only where `reconnects` changed; a line at rest pays nothing."""
    seen = reconnects()
    while True:
        await asyncio.sleep(every_s)
        if (count := reconnects()) != seen:
            seen = count
            await asyncio.to_thread(trim)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
