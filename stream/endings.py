"""Ending tasks, and at last the process, for certain."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterable

log = logging.getLogger(__name__)

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


def end_process_within(seconds: float, error: BaseException | None = None) -> None:
    """The last thing before a process ends by itself: end it where its threads don't let it.

    A thread that reads a disk or a share that is gone can't be ended and is waited for, by asyncio and by the
    interpreter, without end; whoever stops or restarts the line would have to kill it. `error` is what the
    process ends by: nobody else could say it then, nor give its exit code.
    """

    def leave() -> None:
        time.sleep(seconds)
        log.warning(
            "some threads have not ended within %g s, and are left: a model was being prepared, or a disk or "
            "a share does not answer",
            seconds,
        )
        if error is not None:
            log.error("%s", error, exc_info=None if getattr(error, "user_message", False) else error)
        os._exit(0 if error is None else getattr(error, "exit_code", 1))

    threading.Thread(target=leave, name="leave", daemon=True).start()
