"""The keys beside the streams that a PLC polls: a status hash for each camera, and a heartbeat that expires.

These are the present, not history: what could not be written is written newer at the next turn, so nothing is
queued. The heartbeat's absence is a fault by itself, whatever the reason.

Which cameras have a hash stands in a key of its own, so that a run that was killed leaves no camera ready for
ever that is in the config no more. Not looked for by SCAN: others share the broker, and may forbid it.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError, ResponseError

from .endings import end
from .heed import heed_cancellation
from .keys import Keys

log = logging.getLogger(__name__)

Fields = Mapping[str, str | int | float]


class StatusBoard:
    """Writes what `read` tells, {camera: fields}, every `every_s`, and renews the heartbeat every
    `heartbeat_every_s`; the heartbeat expires after three times that. `run` is one task.

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
        heartbeat_every_s: float = 1.0,
    ) -> None:
        self._make_client, self._keys = make_client, keys
        self._read, self._alive = read, alive
        self._every_s, self._heartbeat_every_s = every_s, heartbeat_every_s
        self._written: set[str] = set()
        self._knows_earlier = False

    async def run(self) -> None:
        """Writes until cancelled; a broker that is away is tried again at the next turn."""
        # A cluster's client connects on entering: one that is away would be the end, not the next turn's.
        async with contextlib.aclosing(self._make_client()) as client, asyncio.TaskGroup() as group:
            group.create_task(_repeat(lambda: self.write(client), self._every_s), name="status")
            group.create_task(_repeat(lambda: self.beat(client), self._heartbeat_every_s), name="heartbeat")

    async def write(self, client: Redis) -> None:
        """The cameras' hashes once, as one pipeline without a transaction: the keys are independent. A camera
        that was removed has none any more, also when an earlier run had it.
        """
        await self._know_earlier(client)
        now = self._read()
        async with client.pipeline(transaction=False) as pipe:
            self._note(pipe, now)
            for camera, fields in now.items():
                told: dict[Any, Any] = dict(fields)
                pipe.hset(self._keys.status(camera), mapping=told)
            await pipe.execute()
        self._written = set(now)

    async def _know_earlier(self, client: Redis) -> None:
        """Once: what an earlier run wrote counts as ours."""
        if self._knows_earlier:
            return
        with contextlib.suppress(ResponseError):  # an ACL may hide it
            self._written |= _names(await client.get(self._keys.cameras))
        self._knows_earlier = True

    def _note(self, pipe: Pipeline, now: Mapping[str, Fields]) -> None:
        """Takes back the hashes of cameras that are not there now, then notes those that are: cut off in
        between, they are taken back again by the next run.
        """
        for camera in self._written - now.keys():
            pipe.delete(self._keys.status(camera))
        pipe.set(self._keys.cameras, json.dumps(sorted(now)))

    async def beat(self, client: Redis) -> None:
        """The heartbeat once, if we are alive."""
        if self._alive():
            await client.set(self._keys.heartbeat, "1", px=max(1, int(self._heartbeat_every_s * 3000)))

    async def cleared(self, within_s: float = 2.0) -> bool:
        """Says that nobody is ready: no heartbeat, ready=0 and busy=0 for every camera that `read` tells, and
        no hash of any other camera of this line.

        At the start, before `run` (what an earlier run left is not true any more), and at an orderly stop,
        after it. Over a connection of its own; False when the broker did not take it within `within_s`.
        """
        task = asyncio.create_task(self._clear(), name="status-clear")
        try:
            await asyncio.wait([task], timeout=within_s)
        finally:
            await end([task])
        if task.cancelled():
            return False
        error = task.exception()
        if error is not None and not isinstance(error, RedisError | OSError):
            raise error  # a bug
        return error is None

    async def _clear(self) -> None:
        async with self._make_client() as client, client.pipeline(transaction=False) as pipe:
            await self._know_earlier(client)
            now = self._read()
            pipe.delete(self._keys.heartbeat)
            self._note(pipe, now)
            for camera in now:
                pipe.hset(self._keys.status(camera), mapping={"ready": 0, "busy": 0})
            await pipe.execute()
            self._written = set(now)
            heed_cancellation()


def _names(told: bytes | str | None) -> set[str]:
    """None in what is no list of ours."""
    try:
        names = json.loads(told or b"[]")
    except (ValueError, RecursionError):
        return set()
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()


async def _repeat(turn: Callable[[], Awaitable[None]], every_s: float) -> None:
    while True:
        with contextlib.suppress(RedisError, OSError):
            await turn()
        heed_cancellation()
        await asyncio.sleep(every_s)
