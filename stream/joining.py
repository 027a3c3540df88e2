"""A consumer group that is there, or is made."""

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ResponseError

_AFTER_ALL = "18446744073709551615-18446744073709551615"


async def join(client: Redis, stream: str, group: str, consumer: str) -> None:
    """From 0 and not from $: what was published before the group existed belongs to it too.

    A broker that is full refuses to make one, also one that is there, and lets read what it has: then it is
    enough that it is there. Raises RedisError or OSError.
    """
    try:
        await client.xgroup_create(stream, group, id="0", mkstream=True)
    except OutOfMemoryError:
        if not await _is_there(client, stream, group, consumer):
            raise
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise


async def _is_there(client: Redis, stream: str, group: str, consumer: str) -> bool:
    """Asked by reading where nothing can be: whoever reads may do that, whatever else an ACL forbids."""
    try:
        await client.xreadgroup(group, consumer, {stream: _AFTER_ALL}, count=1)
    except ResponseError as error:
        if not str(error).startswith("NOGROUP"):
            raise
        return False
    return True
