"""Ending tasks for certain."""

import asyncio
from collections.abc import Iterable

_AGAIN_AFTER_S = 0.5


async def end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until all have ended; what they raise is not raised here.

    Asked again and again: a cancellation that meets a library's own time-out in the same turn of the loop can
    get lost in it (`asyncio.wait_for` before Python 3.12, and what is built on it).
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=_AGAIN_AFTER_S)
        for task in done:
            if not task.cancelled():
                task.exception()  # taken note of, so that asyncio doesn't complain
