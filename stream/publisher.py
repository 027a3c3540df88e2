"""Outbox → XADD: at least once, in order, and harmless to repeat. One task; the stream's only ordered writer.

We choose entry ids, write them into the outbox, and only then send. A batch goes as WATCH · XINFO STREAM ·
MULTI · XADD… · EXEC, so it arrives whole or not at all, and nobody gets an entry in between:

- Every batch first reads our last acknowledged entry back. Is it gone, then the broker lost some: they are
  found by bisection (replay.py) and sent again.
- An id at or below the top was perhaps sent before the answer got lost. It is read back: our event id there
  means delivered; anything else (a foreign writer, a clock set back) means that the event takes an id above
  the top.
- An id above the top is kept over retries. An EXEC of ours that a paused broker still holds in a dead
  connection would then write the same ids, and WATCH lets only one of the two through.
- An error reply is no delivery: the batch stays, the publisher says why, waits (jittered) and tries again.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError, WatchError

from .events import entry_fields
from .keys import Keys
from .outbox import EntryId, Outbox, Row, checkpoint
from .replay import StreamInfo, entry_id_text, holds, lost_rows, stream_info, text

log = logging.getLogger(__name__)

BATCH = 256
IDLE_CHECK_S = 1.0
CHECKPOINT_EVERY_S = 1.0
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.1, 5.0


@dataclass(frozen=True, slots=True)
class PublisherState:
    """What the page and the metrics say: `error` is one sentence without secrets, None while all is well."""

    connected: bool = False
    error: str | None = None
    published: int = 0
    replayed: int = 0
    retries: int = 0


class Publisher:
    """Sends what the outbox holds. `run` is one task; `wake` and `state` may be used from the same loop.

    `make_client` gives a new connection pool: after every error the old one is closed, so that a name is
    looked up again and a Sentinel is asked again. `now_s` is UTC seconds; a clock set back only makes ids
    count up.
    """

    def __init__(
        self,
        outbox: Outbox,
        make_client: Callable[[], Redis],
        keys: Keys,
        *,
        maxlen: int,
        on_delivered: Callable[[], None] = lambda: None,
        now_s: Callable[[], float] = time.time,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.state = PublisherState()
        self._outbox = outbox
        self._make_client = make_client
        self._keys = keys
        self._maxlen = maxlen
        self._on_delivered = on_delivered
        self._now_s = now_s
        self._rng = rng
        self._news = asyncio.Event()
        self._failures = 0

    def wake(self) -> None:
        """Something was put into the outbox."""
        self._news.set()

    async def run(self) -> None:
        """Sends until cancelled; whatever is not acknowledged then stays in the outbox for the next start."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._housekeep(), name="outbox-checkpoint")
            group.create_task(self._send(), name="outbox-send")

    async def _send(self) -> None:
        while True:
            client = self._make_client()
            try:
                await self._serve(client)
            except (RedisError, OSError) as error:
                self._failed(error)
            finally:
                with contextlib.suppress(RedisError, OSError):
                    await client.aclose()
            await asyncio.sleep(self._delay_s())

    async def drained(self, timeout_s: float) -> bool:
        """Waits until the broker has everything; False when it did not in time. For an orderly stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._outbox.pending:
                    self.wake()
                    await asyncio.sleep(0.01)
        return not self._outbox.pending

    async def _serve(self, client: Redis) -> None:
        while True:
            self._news.clear()
            for stream in self._outbox.streams():
                while await self._send_batch(client, stream):
                    pass
            self._succeeded()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), IDLE_CHECK_S)

    async def _housekeep(self) -> None:
        while True:
            await asyncio.sleep(CHECKPOINT_EVERY_S)
            await asyncio.to_thread(checkpoint, self._outbox.path)

    async def _send_batch(self, client: Redis, stream: str) -> bool:
        """One batch of one stream; True when there may be more."""
        key = self._keys.of(stream)
        async with client.pipeline(transaction=True) as pipe:
            await pipe.watch(key)
            info = await stream_info(pipe, key)
            if await self._replay(pipe, stream, key, info):
                return True
            rows = await self._settle(pipe, key, self._outbox.take(stream, BATCH), info.top)
            if not rows:
                return False
            rows = self._assign(rows, info.top)
            try:
                replies = await self._execute(pipe, key, rows)
            except WatchError:
                return True
        return self._delivered(rows, replies)

    async def _replay(self, pipe: Pipeline, stream: str, key: str, info: StreamInfo) -> bool:
        """Takes back what the broker lost of what it had acknowledged; True when it lost something."""
        lost = await lost_rows(pipe, key, stream, self._outbox, info, self._maxlen)
        if not lost:
            return False
        log.warning("the broker lost %d acknowledged entries of %s; they are sent again", len(lost), key)
        reusable = all(row.entry_id is not None and row.entry_id > info.top for row in lost)
        self._outbox.recall(lost, keep_ids=reusable)
        self.state = replace(self.state, replayed=self.state.replayed + len(lost))
        return True

    async def _settle(self, pipe: Pipeline, key: str, rows: Sequence[Row], top: EntryId) -> list[Row]:
        """Reads back the ids that may have been used already; returns what is still to be sent, in order."""
        doubtful = [row for row in rows if row.entry_id is not None and row.entry_id <= top]
        if not doubtful:
            return list(rows)
        there = [row for row in doubtful if await holds(pipe, key, row)]
        self._outbox.acknowledge(there)
        taken = [row for row in doubtful if row not in there]
        if taken:
            log.info("%d entry ids of %s were taken by another writer or a clock set back", len(taken), key)
            self._outbox.assign([(row.n, None) for row in taken])
        settled = {row.n for row in there}
        return [replace(r, entry_id=None) if r in taken else r for r in rows if r.n not in settled]

    def _assign(self, rows: Sequence[Row], top: EntryId) -> list[Row]:
        """Entry ids that rise from the top on; those that a row has already stay."""
        last = max([top, *(row.entry_id for row in rows if row.entry_id is not None)])
        now_ms = int(self._now_s() * 1000)
        numbered = []
        for row in rows:
            if row.entry_id is None:
                last = (now_ms, 0) if now_ms > last[0] else (last[0], last[1] + 1)
                row = replace(row, entry_id=last)
            numbered.append(row)
        self._outbox.assign(
            [(r.n, r.entry_id) for r, old in zip(numbered, rows, strict=True) if old.entry_id is None]
        )
        return sorted(numbered, key=_id_of)

    async def _execute(self, pipe: Pipeline, key: str, rows: Sequence[Row]) -> list[Any]:
        pipe.multi()  # type: ignore[no-untyped-call]
        now_s = self._now_s()
        for row in rows:
            fields: dict[Any, Any] = dict(entry_fields(row.body, now_s))
            pipe.xadd(key, fields, id=entry_id_text(_id_of(row)), maxlen=self._maxlen, approximate=True)
        return list(await pipe.execute(raise_on_error=False))

    def _delivered(self, rows: Sequence[Row], replies: Sequence[Any]) -> bool:
        done = [
            row for row, reply in zip(rows, replies, strict=True) if text(reply) == entry_id_text(_id_of(row))
        ]
        self._outbox.acknowledge(done)
        if done:
            self.state = replace(self.state, published=self.state.published + len(done))
            self._on_delivered()
        errors = [reply for reply in replies if isinstance(reply, Exception)]
        if errors:
            raise errors[0]
        return True

    def _succeeded(self) -> None:
        if self.state.error is not None:
            log.info("the broker takes events again")
        self._failures = 0
        self.state = replace(self.state, connected=True, error=None)

    def _failed(self, error: Exception) -> None:
        text = explain(error)
        if text != self.state.error:
            log.warning("events wait in the outbox: %s", text)
        self._failures += 1
        self.state = replace(self.state, connected=False, error=text, retries=self.state.retries + 1)

    def _delay_s(self) -> float:
        longest = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(self._failures, 16))
        return longest * (0.5 + 0.5 * self._rng())


def explain(error: Exception) -> str:
    """A broker's error for a person, without what might hold a password."""
    if isinstance(error, AuthenticationError):
        return "the broker refuses our user or password; check events.username and events.password"
    if isinstance(error, NoPermissionError):
        return f"the broker's ACL forbids a command that is needed: {error}"
    if isinstance(error, ResponseError):
        return f"the broker answers: {error}"
    return f"the broker can't be reached ({type(error).__name__})"


def _id_of(row: Row) -> EntryId:
    assert row.entry_id is not None
    return row.entry_id
