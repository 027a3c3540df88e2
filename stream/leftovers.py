"""Consumers of a group that nobody will ever be again: named by host and process, interrupted or killed."""

import contextlib
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

# A reader that lives asks the broker every second; one that was paused for a day makes itself anew.
IDLE_MS = 86_400_000


async def remove_leftovers(client: Redis, stream: str, group: str) -> None:
    """Takes consumers out of a group that have asked for nothing for a day and hold nothing.

    What one holds would be forgotten with it, so it stays until somebody has taken that over. Where the
    broker forbids this, all stay. Raises RedisError or OSError when the broker is away.
    """
    with contextlib.suppress(ResponseError):
        found: list[Any] = await client.xinfo_consumers(stream, group)
        for consumer in found:
            if consumer["pending"] == 0 and consumer["idle"] >= IDLE_MS:
                await client.xgroup_delconsumer(stream, group, consumer["name"])
