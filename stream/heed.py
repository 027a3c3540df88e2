"""A cancellation that redis-py has swallowed is raised again.

Seen with redis-py 8.1 on Python 3.11: a task that is cancelled inside a pipeline goes on as if nothing had
happened, and whoever awaits its end waits for ever. So every loop around broker calls asks.
"""

import asyncio


def heed_cancellation() -> None:
    """Raises CancelledError when the current task was cancelled and still runs."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
