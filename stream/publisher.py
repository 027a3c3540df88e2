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
  So it does when the outbox's own disk refuses: what was sent and not written down is read back later.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError, WatchError

from . import reach
from .broker_version import BrokerTooOld, check_version
from .events import entry_fields
from .heed import heed_cancellation
from .keys import Keys
from .links import Links, NoSentinel, WrongCertificates
from .outbox import EntryId, Outbox, Row
from .outbox_file import OutboxError, checkpoint
from .replay import Kept, StreamInfo, entry_id_text, first_lost, holds, stream_info, text
from .room import FULL, Room, is_full
from .steady_days import SteadyDays

log = logging.getLogger(__name__)

BATCH = 128
MOST_UNDONE = 3
# Rows that one transaction of the outbox changes: some 10 ms.
SLICE = 1000
LEAD_MS = 1000
IDLE_CHECK_S = 1.0
CHECKPOINT_EVERY_S = 1.0
TRIM_EVERY_S = 60.0
_TROUBLES = (RedisError, OSError, OutboxError, BrokerTooOld)
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
    looked up again and a Sentinel is asked again. Streams keep about `maxlen` entries, and none that is older
    than `max_age_s`. `now_s` is UTC seconds, `tick_s` seconds of a clock that nobody sets; one set back only
    makes ids count up.
    """

    def __init__(
        self,
        outbox: Outbox,
        make_client: Callable[[], Redis],
        keys: Keys,
        *,
        maxlen: int,
        max_age_s: float | None = None,
        on_delivered: Callable[[], None] = lambda: None,
        now_s: Callable[[], float] = time.time,
        tick_s: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.state = PublisherState()
        self._outbox = outbox
        self._make_client = make_client
        self._keys = keys
        self._maxlen, self._max_age_s = maxlen, max_age_s
        self._on_delivered = on_delivered
        self._now_s, self._tick_s = now_s, tick_s
        self._days = SteadyDays("entries at the broker")
        self._rng = rng
        self._room = Room(keys, tick_s)
        self._news = asyncio.Event()
        # Streams that could not be sent when they were tried last.
        self._failing: dict[str, Exception] = {}
        # What each stream was like when we looked last.
        self._seen: dict[str, StreamInfo] = {}
        self._trim_at = 0.0
        self._failures = 0
        # Batches in a row that another writer's entry has undone, by stream.
        self._undone: Counter[str] = Counter()
        # Where the last entry by itself came too late: that writer's ids run ahead of our clock.
        self._outrun: set[str] = set()
        # Smaller after each failure, so that a link that breaks all the time still gets something through.
        self._batch = BATCH

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
            links = Links(self._make_client(), check_version)
            try:
                await self._serve(links)
            except _TROUBLES as error:
                self._failed(error)
            finally:
                await links.aclose()
            heed_cancellation()
            await asyncio.sleep(self._delay_s())

    async def drained(self, timeout_s: float) -> bool:
        """Waits until the broker has everything; False when it did not in time. For an orderly stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._outbox.pending:
                    self.wake()
                    await asyncio.sleep(0.01)
        return not self._outbox.pending

    async def _serve(self, links: Links) -> None:
        while True:
            self._news.clear()
            await self._send_all(links)
            self._succeeded()
            heed_cancellation()
            with contextlib.suppress(TimeoutError):
                # Not wait_for: on Python 3.11 it forgets a cancellation that comes together with news.
                async with asyncio.timeout(IDLE_CHECK_S):
                    await self._news.wait()

    async def _send_all(self, links: Links) -> None:
        """A batch of each stream in turn until nothing waits: a backlog of one delays no other, nor does one
        that can't be sent now (in a cluster it may be on another server).
        """
        streams = self._outbox.streams()
        self._failing = {stream: error for stream, error in self._failing.items() if stream in streams}
        while streams:
            streams = [stream for stream in streams if await self._sent(links, stream)]
        if self._failing:
            raise next(iter(self._failing.values()))
        await self._trim_old(links)

    async def _sent(self, links: Links, stream: str) -> bool:
        """True when there may be more to send."""
        try:
            client = await links.of(self._keys.of(stream))
            more = await self._room.sent(client, stream, lambda: self._send_batch(client, stream))
        except _TROUBLES as error:
            self._failing[stream] = error
            return False
        self._failing.pop(stream, None)
        return more

    async def _trim_old(self, links: Links) -> None:
        """Entries beyond their age go, also while nothing is sent; not by a clock that may be wrong, which
        would make all of them too old, and some that nobody has read yet.
        """
        now = self._tick_s()
        if self._max_age_s is None or now < self._trim_at or not self._days.are(self._now_s(), now):
            return
        for stream in self._outbox.streams():
            key = self._keys.of(stream)
            client = await links.of(key)
            await client.xtrim(key, minid=self._keeps().oldest_ms, approximate=False)
        self._trim_at = now + TRIM_EVERY_S

    def _keeps(self) -> Kept:
        if self._max_age_s is None:
            return Kept(self._maxlen)
        return Kept(self._maxlen, max(0, int((self._now_s() - self._max_age_s) * 1000)))

    async def _housekeep(self) -> None:
        said = ""
        while True:
            await asyncio.sleep(CHECKPOINT_EVERY_S)
            try:
                await asyncio.to_thread(checkpoint, self._outbox.path)
                said = ""
            except (OSError, RuntimeError) as error:  # RuntimeError: no further thread can be started
                if str(error) != said:
                    said = str(error)
                    log.warning("the outbox is not written through for now: %s", said)

    async def _send_batch(self, client: Redis, stream: str) -> bool:
        """One batch of one stream; True when there may be more."""
        heed_cancellation()
        key = self._keys.of(stream)
        crowded = self._undone[stream] >= MOST_UNDONE
        try:
            async with client.pipeline(transaction=True) as pipe:
                await pipe.watch(key)
                info = await stream_info(pipe, key)
                if await self._settle(pipe, stream, key, info.top):
                    return True
                if await self._replay(pipe, stream, key, info):
                    return True
                self._seen[stream] = info
                rows = self._outbox.take(stream, self._batch)
                if not rows:
                    return False
                rows = self._assign(rows, info.top, crowded, stream in self._outrun)
                replies = [] if crowded else await self._execute(pipe, key, rows)
        except WatchError:
            self._undone[stream] += 1
            return True
        self._undone[stream] = 0
        self._batch = min(BATCH, self._batch * 2)
        if crowded:
            replies = await self._one_by_one(client, key, rows)
            (self._outrun.discard if replies else self._outrun.add)(stream)
        else:
            self._seen[stream] = info.after(rows)
        return self._delivered(stream, rows[: len(replies)], replies)

    async def _settle(self, pipe: Pipeline, stream: str, key: str, top: EntryId) -> bool:
        """Reads back the ids that may have been used already; True when there were some.

        What is not there has lost its id to another writer, and whatever comes after it loses its id too: it
        would overtake. That is harmless: an EXEC of ours that still hangs somewhere was undone by that
        writer.
        """
        doubtful = self._outbox.assigned(stream, top, self._batch)
        there = [row for row in doubtful if await holds(pipe, key, row)]
        self._outbox.acknowledge(there)
        if taken := [row for row in doubtful if row not in there]:
            await _not_going_back(pipe, key, top)
            log.info("%d entry ids of %s were taken by another writer or a clock set back", len(taken), key)
            first = _id_of(taken[0])
            await _in_slices(lambda most: self._outbox.unassign(stream, first, most))
        return bool(doubtful)

    async def _replay(self, pipe: Pipeline, stream: str, key: str, info: StreamInfo) -> bool:
        """Takes back what the broker lost of what it had acknowledged; True when it lost something."""
        before = self._seen.get(stream)
        lost = await first_lost(pipe, key, stream, self._outbox, info, before, self._keeps())
        if lost is None:
            return False
        await _not_going_back(pipe, key, info.top)
        count = await _in_slices(lambda most: self._outbox.recall(stream, lost, most))
        log.warning("the broker lost %d acknowledged entries of %s; they are sent again", count, key)
        if lost <= info.top:
            await _in_slices(lambda most: self._outbox.unassign(stream, lost, most))
        self.state = replace(self.state, replayed=self.state.replayed + count)
        return True

    def _assign(self, rows: Sequence[Row], top: EntryId, crowded: bool, outrun: bool) -> list[Row]:
        """Entry ids that rise from the top on; those that a row has already stay."""
        last = max([top, *(row.entry_id for row in rows if row.entry_id is not None)])
        now_ms = int(self._now_s() * 1000) + (LEAD_MS if crowded else 0)
        if crowded and outrun:
            now_ms = max(now_ms, last[0] + LEAD_MS)
        numbered = []
        for row in rows:
            if row.entry_id is None:
                if now_ms > last[0]:
                    last = (now_ms, 0)
                else:
                    last = (last[0] + 1, 0) if crowded else (last[0], last[1] + 1)
                row = replace(row, entry_id=last)
            numbered.append(row)
        fresh = [(r.n, _id_of(r)) for r, old in zip(numbered, rows, strict=True) if old.entry_id is None]
        if fresh:
            self._outbox.assign(fresh)
        return numbered

    async def _execute(self, pipe: Pipeline, key: str, rows: Sequence[Row]) -> list[Any]:
        pipe.multi()  # type: ignore[no-untyped-call]
        for row in rows:
            self._xadd(pipe, key, row)
        return list(await pipe.execute(raise_on_error=False))

    async def _one_by_one(self, client: Redis, key: str, rows: Sequence[Row]) -> list[Any]:
        """Against somebody who writes into our stream without a pause: no batch gets through undisturbed
        then.

        Each entry by itself, ahead of the clock and a millisecond apart, so that the other's ids fit in
        between. The first one whose id is taken ends it, because nothing may overtake it.
        """
        replies: list[Any] = []
        for row in rows:
            try:
                replies.append(await self._xadd(client, key, row))
            except ResponseError as refused:
                if "equal or smaller" not in str(refused):
                    raise
                break
        return replies

    def _xadd(self, client: Redis, key: str, row: Row) -> Any:
        fields: dict[Any, Any] = dict(entry_fields(row.body, self._now_s()))
        return client.xadd(key, fields, id=entry_id_text(_id_of(row)), maxlen=self._maxlen, approximate=True)

    def _delivered(self, stream: str, rows: Sequence[Row], replies: Sequence[Any]) -> bool:
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
        if not self._failing.keys() - {stream}:
            self._succeeded()
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
        self._batch = max(1, self._batch // 4)
        connected = self.state.connected and isinstance(error, OutboxError)
        self.state = replace(self.state, connected=connected, error=text, retries=self.state.retries + 1)

    def _delay_s(self) -> float:
        longest = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(self._failures, 16))
        return longest * (0.5 + 0.5 * self._rng())


def explain(error: Exception, who: str = "the broker", login: str = "events") -> str:
    """A broker's or the outbox's error for a person, without what might hold a password. `login` is the
    section of the config with user and password.
    """
    if isinstance(error, OutboxError | BrokerTooOld | WrongCertificates):
        return str(error)
    if isinstance(error, NoSentinel):
        return "; ".join(
            dict.fromkeys(explain(each, "a sentinel", "events.sentinel") for each in error.failed)
        )
    if isinstance(error, AuthenticationError):
        return f"{who} refuses our user or password; check {login}.username and {login}.password"
    if isinstance(error, NoPermissionError):
        return f"{who}'s ACL forbids a command that is needed: {error}"
    if is_full(error):
        return f"{who} {FULL}"
    if isinstance(error, ResponseError):
        return f"{who} answers: {error}"
    if isinstance(error, MasterNotFoundError):
        return "the sentinels name no primary now; check the service's name in events.url"
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return f"{who}'s certificate is not to be trusted; check events.tls.ca_file and the host's name"
    return f"{who} can't be reached: {reach.why(error)}"


async def _not_going_back(pipe: Pipeline, key: str, top: EntryId) -> None:
    """Raises WatchError when the stream shrank while it was read: that was of two different moments."""
    if (await stream_info(pipe, key)).top < top:
        raise WatchError("the stream went back")


async def _in_slices(change: Callable[[int], int]) -> int:
    """Calls `change(SLICE)` until it changed fewer, with the event loop's other work in between; how many in
    all.
    """
    total = changed = change(SLICE)
    while changed == SLICE:
        await asyncio.sleep(0)
        changed = change(SLICE)
        total += changed
    return total


def _id_of(row: Row) -> EntryId:
    assert row.entry_id is not None
    return row.entry_id
