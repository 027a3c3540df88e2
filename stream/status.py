"""The keys beside the streams that a PLC polls: a status hash for each camera, and a heartbeat that expires.

These are the present, not history: what could not be written is written newer a second later, so nothing is
queued. The heartbeat's absence is a fault by itself, whatever the reason.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from .heed import heed_cancellation
from .keys import Keys

log = logging.getLogger(__name__)

Fields = Mapping[str, str | int | float]


class StatusBoard:
    """Writes what `read` tells, {camera: fields}, every `every_s`. `run` is one task.

    `alive` is asked before each heartbeat: a device that hangs must not look alive. Fields of product.md:
    ready, busy, result_no, ok_count, ng_count, error_code, processing_ms, config_checksum, model_version.
    """

    def __init__(
        self,
        make_client: Callable[[], Redis],
        keys: Keys,
        read: Callable[[], Mapping[str, Fields]],
        *,
        alive: Callable[[], bool] = lambda: True,
        every_s: float = 1.0,
    ) -> None:
        self._make_client, self._keys = make_client, keys
        self._read, self._alive = read, alive
        self._every_s = every_s

    async def run(self) -> None:
        """Writes until cancelled; a broker that is away is tried again at the next turn."""
        async with self._make_client() as client:
            while True:
                with contextlib.suppress(RedisError, OSError):
                    await self.write(client)
                heed_cancellation()
                await asyncio.sleep(self._every_s)

    async def write(self, client: Redis) -> None:
        """One turn, as one pipeline without a transaction: the keys are independent."""
        async with client.pipeline(transaction=False) as pipe:
            for camera, fields in self._read().items():
                told: dict[Any, Any] = dict(fields)
                pipe.hset(self._keys.status(camera), mapping=told)
            if self._alive():
                pipe.set(self._keys.heartbeat, "1", px=int(self._every_s * 3000))
            await pipe.execute()

    async def clear(self, client: Redis) -> None:
        """An orderly stop: the heartbeat ends now and not three turns later, and no camera is ready."""
        async with client.pipeline(transaction=False) as pipe:
            pipe.delete(self._keys.heartbeat)
            for camera in self._read():
                pipe.hset(self._keys.status(camera), mapping={"ready": 0, "busy": 0})
            await pipe.execute()
