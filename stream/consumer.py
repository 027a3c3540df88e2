"""What a subscriber uses: every event at least once, through restarts of the broker, of us and of itself.

    consumer = Consumer(endpoint.client(), "linewatch:plant-a:line-1:events", "mes")
    async for event in consumer:
        save(event)                  # acknowledged when the next one is asked for

A body that raises, or a program that is killed in it, leaves its event unacknowledged: it comes again, to the
same consumer when it starts again, or to another one of the group after `idle_ms`. After more than
`max_deliveries` it goes to the dead-letter stream. The same event may come under two entry ids (a broker that
lost data gets a replay); those that this consumer has seen already are skipped by the event's id, so within
one run a body sees an event once. Over restarts be idempotent by `event.id`.
"""

import asyncio
import contextlib
import logging
import os
import random
import socket
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from .events import Event, EventError, parse_entry
from .heed import heed_cancellation
from .joining import join
from .keys import Keys
from .leftovers import remove_leftovers

log = logging.getLogger(__name__)

_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.1, 5.0


@dataclass(slots=True)
class Counts:
    """What a consumer met. `lost` counts numbers missing between the seqs of a camera."""

    read: int = 0
    claimed: int = 0
    repeated: int = 0
    foreign: int = 0
    trimmed: int = 0
    dead: int = 0
    lost: int = 0
    reconnects: int = 0


@dataclass(slots=True)
class SeqCheck:
    """Finds what is missing from each camera's seq. Pure; memory is bounded by the number of cameras."""

    last: dict[str, int] = field(default_factory=dict)

    def missing(self, camera: str, seq: int) -> int:
        """How many numbers were skipped before this one; a lower one (a replay) skips none."""
        before = self.last.get(camera)
        self.last[camera] = max(seq, before or 0)
        return 0 if before is None else max(0, seq - before - 1)


class Seen:
    """The last `size` ids. Pure."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, event_id: str) -> bool:
        return event_id in self._ids

    def add(self, event_id: str) -> None:
        self._ids[event_id] = None
        if len(self._ids) > self._size:
            self._ids.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Entry:
    id: bytes
    fields: dict[bytes, bytes]


@dataclass(eq=False, slots=True)
class Held:
    """An event whose reader settles it by itself; `entries` are the ids under which it came."""

    event: Event
    fields: dict[bytes, bytes]
    entries: list[bytes]


class Consumer:
    """An async iterator over the events of one consumer group. One task at a time iterates.

    `client` is closed by nobody here; one that decodes what the broker says is refused with a ValueError.
    Raises redis' AuthenticationError or NoPermissionError when the broker refuses us at the start; later
    errors are waited out, and `on_waiting` is told the first of each outage.

    With `until_idle` the iteration ends when nothing is left to read, instead of waiting for more; nor is a
    broker waited for then: its RedisError or OSError is raised. At that end a consumer without a given `name`
    leaves its group, where the broker permits it: the next one will have another name. At its beginning it
    takes out those that left nothing behind and are gone for a day.
    """

    def __init__(
        self,
        client: Redis,
        stream: str,
        group: str,
        *,
        name: str | None = None,
        idle_ms: int = 60_000,
        max_deliveries: int = 5,
        batch: int = 64,
        block_ms: int = 1000,
        remember: int = 100_000,
        until_idle: bool = False,
        on_waiting: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        if client.get_encoder().decode_responses:  # type: ignore[no-untyped-call]
            raise ValueError(
                "a Consumer reads the broker's own bytes: make its client without decode_responses=True"
            )
        self.counts = Counts()
        self.group, self.stream = group, stream
        self.name = name or f"{socket.gethostname()}-{os.getpid()}"
        self._client = client
        self._dead = Keys(stream).dead
        self._idle_ms, self._max_deliveries = idle_ms, max_deliveries
        self._batch, self._block_ms = batch, block_ms
        self._until_idle, self._on_waiting = until_idle, on_waiting
        self._leaves = until_idle and name is None
        self._tidies = name is None
        self._seen, self._seqs = Seen(remember), SeqCheck()
        self._here: deque[_Entry] = deque()
        self._here_since = 0.0
        self._ready = False
        self._history = True
        self._claim_at = 0.0
        self._claim_from: bytes | str = b"0-0"
        self._holding = False
        self._history_from = "0"
        self._held: dict[str, Held] = {}
        self._held_entries: set[bytes] = set()
        self._room = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[Event]:
        self._ready = False
        self._here.clear()
        while True:
            if not self._here and not await self._fill():
                await self._leave()
                return
            while self._here:
                entry = self._here.popleft()
                event = self._open(entry)
                if event is not None:
                    yield event
                    self._seen.add(event.id)
                await self._persist(self._ack(entry.id))
                self._let_go_of_old()

    def _let_go_of_old(self) -> None:
        """What waits here behind a slow body looks like a dead reader's to the others of the group: before
        they take it over, it is let go, and what is still ours is read again one by one.
        """
        if self._here and asyncio.get_running_loop().time() - self._here_since >= self._idle_ms / 2000:
            self._here.clear()
            self._history = True

    async def held(self, most: int = 1024) -> AsyncIterator[Held]:
        """The same events, each settled by itself: `settle` or `reject` it, in any order, from any task of
        this loop. At most `most` are held; then reading waits.

        For the only reader of a group, under a name that stays the same. It may hold an event for hours and
        over any number of restarts, so deliveries are not counted, and nothing is claimed from others.
        """
        self._holding, self._ready = True, False
        self._here.clear()
        while await self._fill():
            while self._here:
                held = await self._hold(self._here.popleft())
                if held is not None:
                    yield held
                while len(self._held) >= most:
                    self._room.clear()
                    await self._room.wait()

    async def settle(self, held: Held) -> None:
        """The side effect has happened. What can't be acknowledged now comes again; its id is known."""
        self._seen.add(held.event.id)
        self._let_go(held)
        await self._persist(self._ack(*held.entries))

    async def reject(self, held: Held, reason: str) -> None:
        """It will never be taken: a dead letter. Raises RedisError or OSError, and it is held on then."""
        await self._bury(_Entry(held.entries[0], held.fields), reason)
        await self.settle(held)

    # -- reading ---------------------------------------------------------------------------------------------

    async def _hold(self, entry: _Entry) -> Held | None:
        """None for what is held already, under this entry id or another, and for what is not to be seen."""
        if entry.id in self._held_entries:
            return None
        twin = self._held.get(entry.fields.get(b"id", b"").decode(errors="replace"))
        event = None if twin is not None else self._open(entry)
        if twin is not None:
            twin.entries.append(entry.id)
        elif event is None:
            await self._persist(self._ack(entry.id))
            return None
        self._held_entries.add(entry.id)
        if event is None:
            return None
        self._held[event.id] = held = Held(event, entry.fields, [entry.id])
        return held

    def _let_go(self, held: Held) -> None:
        self._held.pop(held.event.id, None)
        self._held_entries.difference_update(held.entries)
        self._room.set()

    async def _fill(self) -> bool:
        """Gets at least one entry; False when the iteration is to end."""
        failures = 0
        while not self._here:
            heed_cancellation()
            try:
                if not self._ready:
                    await self._begin()
                elif not await self._read() and self._until_idle:
                    return False
                else:
                    failures = 0
            except (AuthenticationError, NoPermissionError) as error:
                if self._until_idle or (self.counts.reconnects == 0 and self.counts.read == 0):
                    raise
                failures = await self._wait(failures, error)
            except (RedisError, OSError) as error:
                # NOGROUP: the broker came back empty; the group is made again, from 0.
                if self._until_idle and not str(error).startswith("NOGROUP"):
                    raise
                self._ready = False
                log.info("reading %s again: %s", self.stream, type(error).__name__)
                failures = await self._wait(failures, error)
        return True

    async def _wait(self, failures: int, error: Exception) -> int:
        if failures == 0:
            self._on_waiting(error)
        self.counts.reconnects += 1
        longest = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(failures, 16))
        await asyncio.sleep(longest * (0.5 + 0.5 * random.random()))
        return failures + 1

    async def _begin(self) -> None:
        await join(self._client, self.stream, self.group, self.name)
        if self._tidies:
            await remove_leftovers(self._client, self.stream, self.group)
            self._tidies = False
        self._ready = self._history = True
        self._history_from = "0"

    async def _read(self) -> bool:
        """One question to the broker; True when there may be more.

        What was delivered before comes one by one: an entry that kills its reader must not take those into
        the grave that were read in the same batch.
        """
        if self._history and self._holding:
            entries = await self._read_group(self._history_from, self._batch, block_ms=None)
            self._history = bool(entries)
            if entries:
                self._history_from = entries[-1][0].decode()
            await self._take(entries, again=False)
            return True
        if self._history:
            entries = await self._read_group("0", 1, block_ms=None)
            self._history = bool(entries)
            await self._take(entries, again=True)
            return True
        now = asyncio.get_running_loop().time()
        if now >= self._claim_at and not self._holding:
            more = await self._claim()
            self._claim_at = 0.0 if more else now + self._idle_ms / 2000
            if more:
                return True
        entries = await self._read_group(">", self._batch, None if self._until_idle else self._block_ms)
        await self._take(entries, again=False)
        return bool(entries)

    async def _read_group(self, start: str, count: int, block_ms: int | None) -> list[Any]:
        told: Any = await self._client.xreadgroup(
            self.group, self.name, {self.stream: start}, count=count, block=block_ms
        )
        return list(told[0][1]) if told else []

    async def _claim(self) -> bool:
        """Takes over one entry that a dead consumer of the group has not acknowledged; True when there was
        one.
        """
        told: Any = await self._client.xautoclaim(
            self.stream, self.group, self.name, self._idle_ms, start_id=self._claim_from, count=1
        )
        self._claim_from, entries, *deleted = told
        # Redis >= 7 lists trimmed entries apart and forgets them itself; 6.2 answers (None, None) for each.
        self.counts.trimmed += len(deleted[0]) if deleted else 0
        self.counts.claimed += len(entries)
        await self._take(entries, again=True)
        return bool(entries) or self._claim_from != b"0-0"

    async def _take(
        self, entries: Iterable[tuple[bytes | None, dict[bytes, bytes] | None]], again: bool
    ) -> None:
        self._here_since = asyncio.get_running_loop().time()
        for entry_id, fields in entries:
            if entry_id is None:
                # Claimed, but without its id: our own pending list has it, and it is settled from there.
                self._history = True
            elif not fields:
                self.counts.trimmed += 1
                await self._ack(entry_id)
            elif again and await self._given_up(entry_id):
                await self._bury(_Entry(entry_id, fields), "delivered too often without an acknowledgement")
            else:
                self._here.append(_Entry(entry_id, fields))

    def _open(self, entry: _Entry) -> Event | None:
        """The entry's event, or None for what is not to be worked on: not ours, or seen before."""
        try:
            event = parse_entry(entry.fields)
        except EventError as error:
            self.counts.foreign += 1
            log.warning("entry %s of %s is skipped: %s", entry.id.decode(), self.stream, error)
            return None
        if event.id in self._seen:
            self.counts.repeated += 1
            return None
        self.counts.read += 1
        self.counts.lost += self._seqs.missing(event.camera, event.seq)
        return event

    async def _leave(self) -> None:
        """Else the group would have one consumer more for each run. Never with what it has not acknowledged:
        that would be forgotten with it.
        """
        if not self._leaves:
            return
        stream, group = self.stream, self.group
        with contextlib.suppress(RedisError, OSError):
            if not await self._client.xpending_range(stream, group, "-", "+", 1, consumername=self.name):
                await self._client.xgroup_delconsumer(stream, group, self.name)

    # -- settling --------------------------------------------------------------------------------------------

    async def _given_up(self, entry_id: bytes) -> bool:
        told: Any = await self._client.xpending_range(self.stream, self.group, entry_id, entry_id, 1)
        return bool(told) and int(told[0]["times_delivered"]) > self._max_deliveries

    async def _bury(self, entry: _Entry, reason: str) -> None:
        """Into the dead-letter stream first, then acknowledged: a crash in between buries it twice, never
        loses it.
        """
        fields: dict[Any, Any] = {
            **entry.fields,
            b"dead_reason": reason,
            b"dead_stream": self.stream,
            b"dead_group": self.group,
            b"dead_entry": entry.id,
        }
        await self._client.xadd(self._dead, fields, maxlen=10_000, approximate=True)
        await self._ack(entry.id)
        self.counts.dead += 1
        log.error("entry %s of %s is a dead letter: %s", entry.id.decode(), self.stream, reason)

    async def _ack(self, *entry_ids: bytes) -> None:
        await self._client.xack(self.stream, self.group, *entry_ids)

    async def _persist(self, acknowledged: Any) -> None:
        """An acknowledgement that fails is not repeated: the entry comes again and is known by its id."""
        try:
            await acknowledged
        except (RedisError, OSError):
            self._ready = False
            self._here.clear()
            self.counts.reconnects += 1
