"""A stream that others write for us, read entry by entry: triggers and commands.

Our consumer group begins at 0, because what was asked before we first started was asked too. It has one
consumer, this line, under a name that does not change: what was read but not settled when the process ended
comes again at the next start. A broker that fails over may have forgotten what it gave us: what comes again
in one run is known, and carried out once. An entry is acknowledged after what it led to was recorded. One
that can't be read goes to `…:dead` with `dead_reason`, `dead_stream`, `dead_group` and `dead_entry`, and the
next one is read. A broker that is away is waited for.

What is settled stays a while, for a look back, and is trimmed then. Pictures don't: a few hundred fill a
broker, and one that is full takes no event either. So an entry that carried one is deleted after its
acknowledgement, and at the start what an earlier run acknowledged and had no time to delete. Other readers of
the stream find such an entry only until it is settled.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from .consumer import Seen
from .heed import heed_cancellation
from .publisher import explain

log = logging.getLogger(__name__)

GROUP, CONSUMER = "linewatch", "line"
PICTURE = b"picture"
MAX_DELIVERIES = 5
# What is settled stays so long, for a look back, by the time in the entries' ids.
KEPT_MS = 600_000
KEPT_LETTERS = 10_000
_BATCH = 64
# How soon an acknowledgement follows, at the latest: the connection waits for entries so long at a time.
_BLOCK_MS = 200
_TRIM_EVERY, _TRIM_EVERY_S = 1000, 60.0
# Where dead letters can't be reached they are not tried for so long: each attempt may take seconds.
_POST_AGAIN_S = 60.0
_LONGEST_FIELD = 4096
# Entries that were carried out lately: more than a replica lacks when it becomes the primary.
_REMEMBERED = 10_000
# A reply may hold so many pictures.
_LOOKED_AT_ONCE = 32
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.1, 5.0


class Malformed(Exception):
    """An entry that can't be read; the text is the reason in its dead letter."""


@dataclass(slots=True)
class Counts:
    """Since start. `gone` entries were trimmed by somebody before we had settled them."""

    taken: int = 0
    dead: int = 0
    gone: int = 0
    reconnects: int = 0


class Inbox:
    """Reads `key` as the group `linewatch`. `run` is one task, which calls `take` with (entry id, fields).

    `take` returns True when the entry is settled, False when `settle` will be called for it; it may raise
    Malformed. `may_acknowledge` is asked before each acknowledgement: while the outbox can't write, entries
    stay ours. `settle` is called on the event loop.
    """

    def __init__(
        self,
        make_client: Callable[[], Redis],
        key: str,
        dead_key: str,
        take: Callable[[str, dict[str, str]], Awaitable[bool]],
        may_acknowledge: Callable[[], bool] = lambda: True,
    ) -> None:
        self.counts = Counts()
        self.error: str | None = None
        self._make_client = make_client
        self._key, self._dead_key = key, dead_key
        self._take, self._may_acknowledge = take, may_acknowledge
        self._open: set[str] = set()
        self._settled: set[str] = set()
        self._carried_out = Seen(_REMEMBERED)
        # Those of both that carry a picture.
        self._heavy: set[str] = set()
        self._since_trim, self._trim_at_s = 0, float("-inf")
        self._kept_ms = KEPT_MS
        self._is_cleared = False
        self._read_ms = 0
        self._failures = 0
        self._letters_away: Exception | None = None
        self._post_at_s = float("-inf")

    @property
    def trouble(self) -> str | None:
        """Why nothing can be read, once that outlasts a first new attempt; None while all is well."""
        return self.error if self._failures > 1 else None

    def settle(self, entry_id: str) -> None:
        """What the entry led to is recorded."""
        if entry_id in self._open:
            self._open.discard(entry_id)
            self._settled.add(entry_id)

    async def run(self) -> None:
        """Reads until cancelled."""
        while True:
            client = self._make_client()
            try:
                await self._serve(client)
            except (RedisError, OSError) as error:
                self._failed(error)
            finally:
                with contextlib.suppress(RedisError, OSError):
                    await client.aclose()
            heed_cancellation()
            longest = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(self._failures, 16))
            await asyncio.sleep(longest * (0.5 + 0.5 * random.random()))

    async def finish(self, within_s: float = 1.0) -> None:
        """Acknowledge what is settled, after `run` has ended; what fails comes again, harmlessly."""
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(within_s), self._make_client() as client:
                await self._acknowledge(client)

    # -- reading -------------------------------------------------------------------------------------

    async def _serve(self, client: Redis) -> None:
        await self._begin(client)
        await self._take_history(client)
        while True:
            heed_cancellation()
            await self._acknowledge(client)
            entries = await self._read(client, ">", _BLOCK_MS)
            self._reading()
            await self._take_all(client, entries)
            await self._trim(client)

    async def _begin(self, client: Redis) -> None:
        """A broker that is full refuses to make a group, also one that is there: so we look first."""
        read_up_to = await self._read_up_to(client)
        # Anew each time: a broker that came back empty may count its ids from below what we read before.
        self._read_ms = 0 if read_up_to is None else _ms(read_up_to)
        if read_up_to is None:
            await self._make_group(client)
        elif not self._is_cleared:
            await self._clear(client, read_up_to)
        self._is_cleared = True

    async def _make_group(self, client: Redis) -> None:
        try:
            await client.xgroup_create(self._key, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def _read_up_to(self, client: Redis) -> str | None:
        """The last entry that the group was given; None: there is no group, or an ACL hides it."""
        groups: list[Any] = []
        with contextlib.suppress(ResponseError):
            groups = await client.xinfo_groups(self._key)
        found = (group["last-delivered-id"].decode() for group in groups if group["name"] == GROUP.encode())
        return next(found, None)

    async def _clear(self, client: Redis, read_up_to: str) -> None:
        """Deletes the pictures that an earlier run has acknowledged."""
        after = "-"
        while entries := await self._look(client, after, read_up_to):
            after = f"({entries[-1][0].decode()}"
            heavy = [entry_id.decode() for entry_id, fields in entries if _is_heavy(fields)]
            await self._delete(client, [name for name in heavy if not await self._pending(client, name)])
            if not self._kept_ms:
                return  # it is refused
            heed_cancellation()

    async def _look(self, client: Redis, start: str, stop: str) -> list[tuple[bytes, Any]]:
        told: Any = await client.xrange(self._key, start, stop, _LOOKED_AT_ONCE)
        return list(told)

    async def _take_history(self, client: Redis) -> None:
        """What was delivered to us and not acknowledged: by an earlier run, or in a reply that got lost."""
        after = "0"
        while entries := await self._read(client, after, None):
            after = entries[-1][0].decode()
            for entry_id, fields in entries:
                name = entry_id.decode()
                if self._is_in_hand(name):
                    continue
                if await self._given_up(client, name):
                    await self._bury(client, name, fields, "delivered too often without being settled")
                else:
                    await self._take_all(client, [(entry_id, fields)])
            heed_cancellation()

    async def _read(self, client: Redis, start: str, block_ms: int | None) -> list[tuple[bytes, Any]]:
        told: Any = await client.xreadgroup(GROUP, CONSUMER, {self._key: start}, count=_BATCH, block=block_ms)
        return list(told[0][1]) if told else []

    async def _take_all(self, client: Redis, entries: Iterable[tuple[bytes, Any]]) -> None:
        for entry_id, fields in entries:
            name = entry_id.decode()
            if self._is_in_hand(name):
                continue
            self._read_ms = max(self._read_ms, _ms(name))
            self._open.add(name)
            if not fields:
                self.counts.gone += 1
                self.settle(name)
                continue
            self._weigh(name, fields)
            if (told := _told(name, fields)) in self._carried_out:
                self.settle(name)
                continue
            try:
                self.counts.taken += 1
                if await self._take(name, _text(fields)):
                    self.settle(name)
            except Malformed as malformed:
                await self._bury(client, name, fields, str(malformed))
            if self._is_in_hand(name):  # else it is a dead letter that can't be written yet
                self._carried_out.add(told)

    def _is_in_hand(self, name: str) -> bool:
        return name in self._open or name in self._settled

    # -- settling ------------------------------------------------------------------------------------

    def _weigh(self, name: str, fields: Mapping[bytes, bytes]) -> None:
        if _is_heavy(fields):
            self._heavy.add(name)

    async def _pending(self, client: Redis, name: str) -> list[Any]:
        """How an entry that waits for its acknowledgement was delivered; empty for one that doesn't."""
        return list(await client.xpending_range(self._key, GROUP, name, name, 1))

    async def _given_up(self, client: Redis, name: str) -> bool:
        told = await self._pending(client, name)
        return bool(told) and int(told[0]["times_delivered"]) > MAX_DELIVERIES

    async def _bury(self, client: Redis, name: str, fields: Mapping[bytes, bytes], reason: str) -> None:
        """The letter first, the acknowledgement after it: a crash in between writes it twice, loses none.

        A broker that refuses the letter (its ACL, its memory) must stop neither the reader nor the trimming:
        the entry stays unacknowledged, and comes again with the next connection, until it is trimmed. But a
        picture goes that fills the broker, be it without a letter: else nothing would ever make room for one.
        """
        self._open.discard(name)  # should the broker go away now, the entry is taken again
        self._weigh(name, fields)
        letter: dict[Any, Any] = {k[:_LONGEST_FIELD]: v[:_LONGEST_FIELD] for k, v in fields.items()}
        letter |= {
            "dead_reason": reason,
            "dead_stream": self._key,
            "dead_group": GROUP,
            "dead_entry": name,
        }
        refused = await self._post(client, letter)
        must_go = isinstance(refused, OutOfMemoryError) and name in self._heavy
        if must_go:
            # No letter holds the picture: it makes room.
            await self._delete(client, [name])
            refused = await self._post(client, letter)
        if refused is not None:
            log.error("entry %s of %s (%s) can't be buried: %s", name, self._key, reason, explain(refused))
            if must_go:
                self._settled.add(name)
            return
        self.counts.dead += 1
        log.warning("entry %s of %s is a dead letter: %s", name, self._key, reason)
        self._settled.add(name)

    async def _post(self, client: Redis, letter: dict[Any, Any]) -> Exception | None:
        """Why the letter is not there. In a cluster only its own node may be away, which shows when a new
        connection fails at it again: then what is to be read doesn't wait for that node.
        """
        now_s = asyncio.get_running_loop().time()
        if now_s < self._post_at_s:
            return self._letters_away
        try:
            await client.xadd(self._dead_key, letter, maxlen=KEPT_LETTERS, approximate=True)
        except ResponseError as refused:
            return refused
        except (RedisError, OSError) as away:
            if self._letters_away is not None:
                self._post_at_s = now_s + _POST_AGAIN_S
            self._letters_away = away
            raise
        self._letters_away = None
        return None

    async def _acknowledge(self, client: Redis) -> None:
        """An acknowledgement without its deletion is harmless: both are done again, or `_clear` deletes."""
        if self._settled and self._may_acknowledge():
            done = list(self._settled)
            await client.xack(self._key, GROUP, *done)
            await self._delete(client, self._heavy.intersection(done))
            self._settled.difference_update(done)
            self._heavy.difference_update(done)
            self._since_trim += len(done)

    async def _delete(self, client: Redis, names: Collection[str]) -> None:
        """An ACL that is older than this may forbid it: then nothing is kept for a look back."""
        if not names or not self._kept_ms:
            return
        try:
            await client.xdel(self._key, *names)
        except ResponseError as refused:
            log.warning("%s: pictures can't be deleted, so all is trimmed: %s", self._key, explain(refused))
            self._kept_ms = 0
            self._since_trim += 1

    async def _trim(self, client: Redis) -> None:
        """A gateway that never trims would fill the broker. What waits for us is never cut off."""
        now_s = asyncio.get_running_loop().time()
        is_time = now_s - self._trim_at_s >= _TRIM_EVERY_S or not self._kept_ms
        if self._since_trim >= _TRIM_EVERY or (self._since_trim and is_time):
            waiting = [_ms(name) for name in self._open | self._settled]
            oldest_ms = min([*waiting, self._read_ms - self._kept_ms])
            self._since_trim, self._trim_at_s = 0, now_s
            try:
                await client.xtrim(self._key, minid=max(0, oldest_ms), approximate=bool(self._kept_ms))
            except ResponseError as refused:
                log.warning("%s can't be trimmed: %s", self._key, explain(refused))

    def _reading(self) -> None:
        if self.error is not None:
            log.info("%s is read again", self._key)
        self.error, self._failures = None, 0

    def _failed(self, error: Exception) -> None:
        text = explain(error)
        if text != self.error:
            log.warning("%s can't be read: %s", self._key, text)
        self.error = text
        self._failures += 1
        self.counts.reconnects += 1


def _is_heavy(fields: Mapping[bytes, bytes]) -> bool:
    """It carries a picture, or what is as large: under a name, perhaps, that we don't know."""
    return PICTURE in fields or sum(map(len, fields.values())) > _LONGEST_FIELD


def _told(name: str, fields: Mapping[bytes, bytes]) -> str:
    """An entry by which it is known again. Not its id alone: a broker that comes back empty may give an id of
    before to something new.
    """
    return f"{name} {hash(frozenset((key, value[:_LONGEST_FIELD]) for key, value in fields.items()))}"


def _ms(entry_id: str) -> int:
    return int(entry_id.partition("-")[0])


def _text(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    try:
        return {name.decode(): _decoded(name, value) for name, value in fields.items()}
    except UnicodeDecodeError:
        raise Malformed("a field is not UTF-8 text") from None


def _decoded(name: bytes, value: bytes) -> str:
    """A picture is no text: its bytes are carried through one, and come out by `encode` the same way."""
    return value.decode(errors="surrogateescape" if name == PICTURE else "strict")
