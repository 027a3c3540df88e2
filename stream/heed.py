"""A cancellation that somebody has swallowed is raised again.

Seen on Python 3.11: a task that is cancelled inside a pipeline of redis-py 8.1, or inside `asyncio.wait_for`
(as aiomqtt's calls are) just as what it waits for is there, goes on as if nothing had happened, and whoever
awaits its end waits for ever. So every loop around calls to a broker asks.
"""

import asyncio


def heed_cancellation() -> None:
    """Raises CancelledError when the current task was cancelled and still runs."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
