"""A full broker: our own oldest entries go, so that the newest get in.

The broker refuses XADD when its memory is full, before XADD's own MAXLEN could trim anything: with longer
streams than fit, nothing more would get in until somebody trims by hand. XTRIM it does take.
"""

import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis
from redis.exceptions import ExecAbortError, OutOfMemoryError, RedisError, ResponseError

from .keys import Keys

log = logging.getLogger(__name__)

# Never shorter than this: it may be somebody else's data that fills the broker.
FLOOR = 1000
_SAY_EVERY_S = 60.0
FULL = (
    "has no memory left; raise events.embedded.max_memory_mb (maxmemory at a broker of your own) or lower "
    "events.maxlen"
)


def is_full(error: Exception) -> bool:
    """Whether the broker refused for want of memory, a command or, when that was queued already, its EXEC."""
    return isinstance(error, OutOfMemoryError) or (isinstance(error, ExecAbortError) and "OOM" in str(error))


class Room:
    """Sends, and where the broker is full lets a tenth of our longest stream go and has it sent again.

    At once the first time, then with each of the publisher's retries: what fills the broker may be gone by
    then. `tick_s` is seconds of a clock that nobody sets.
    """

    def __init__(self, keys: Keys, tick_s: Callable[[], float] = time.monotonic) -> None:
        self._ours = (keys.events, keys.verdicts, keys.answers)
        self._tick_s = tick_s
        # Streams for which room was made that have not got through since.
        self._refused: set[str] = set()
        self._untold: Counter[str] = Counter()
        self._say_at_s = float("-inf")

    async def sent(self, client: Redis, stream: str, send: Callable[[], Awaitable[bool]]) -> bool:
        """What `send` returns, or True when there is room now to try it again; raises what it raises."""
        try:
            more = await send()
        except RedisError as error:
            if not is_full(error):
                raise
            if await self._let_go(client) and stream not in self._refused:
                self._refused.add(stream)
                return True
            self._say()
            raise
        self._refused.discard(stream)
        self._say()
        return more

    async def _let_go(self, client: Redis) -> int:
        """How many entries went; by whole nodes of the stream, as a part of one frees nothing."""
        length, key = max([(await _length(client, key), key) for key in self._ours])
        kept = max(FLOOR, length - length // 10)
        if length <= kept:
            return 0
        gone = int(await client.xtrim(key, maxlen=kept, approximate=True))
        self._untold[key] += gone
        return gone

    def _say(self) -> None:
        now_s = self._tick_s()
        if now_s < self._say_at_s or not self._untold.total():
            return
        for key, gone in self._untold.items():
            log.warning(
                "the %d oldest entries of %s were let go to make room: the broker %s", gone, key, FULL
            )
        self._untold.clear()
        self._say_at_s = now_s + _SAY_EVERY_S


async def _length(client: Redis, key: str) -> int:
    try:
        return int(await client.xlen(key))
    except ResponseError:  # in a cluster it is at another node; or it is no stream
        return 0
