"""What the broker lost of what it had acknowledged: restarted empty, restored from a backup, an older
replica.

A broker loses the newest entries, never some in between. So the window of acknowledged entries is bisected:
the newest one that is still there under our event id ends what was kept; everything after it is sent again.
Entries before the stream's first one in a stream at its full length were trimmed, not lost.

Nor is lost what somebody deletes (XDEL, XTRIM): the stream remembers the highest id it ever had and the
highest that was deleted, and where one of these is an entry of ours, this very stream had everything up to
it. A broker that lost entries has a lower top. Where foreign entries stand above all that is left, the count
of entries ever added (Redis 7 and later) decides: if it grew since our last look by exactly the entries that
are newer than that look, nothing was lost. What remains unclear is taken for a loss: a key that was deleted
as a whole, a stream that others write into and trim several times a second, one that we have not looked at
since we started, Redis 6.2. A resent event is a second entry with the same event id.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio.client import Pipeline
from redis.exceptions import ResponseError, WatchError

from .outbox import EntryId, Outbox, Row

ZERO: EntryId = (0, 0)
_MOST_NEWER = 1000


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream at the broker: the highest id it ever had, its first entry's, how many entries it has, how
    many it ever had, and the highest id that XDEL took (both unknown before Redis 7).
    """

    top: EntryId = ZERO
    first: EntryId = ZERO
    length: int = 0
    deleted: EntryId = ZERO
    added: int | None = None

    def after(self, sent: Sequence[Row]) -> "StreamInfo":
        """The same stream after these entries were added, by us alone."""
        if not sent or self.added is None or sent[-1].entry_id is None:
            return self
        return replace(self, top=sent[-1].entry_id, added=self.added + len(sent))


@dataclass(frozen=True, slots=True)
class Kept:
    """What the broker is asked to keep: entries that it trimmed are not lost."""

    maxlen: int
    oldest_ms: int = 0


async def stream_info(pipe: Pipeline, key: str) -> StreamInfo:
    """A missing key is a stream without entries. Raises ResponseError when the key holds another type."""
    try:
        told: dict[str, Any] = await pipe.xinfo_stream(key)
    except ResponseError as error:
        if "no such key" in str(error):
            return StreamInfo()
        raise
    first = told["first-entry"]
    return StreamInfo(
        entry_id(told["last-generated-id"]),
        entry_id(first[0]) if first else ZERO,
        int(told["length"]),
        entry_id(told.get("max-deleted-entry-id", b"0-0")),
        told.get("entries-added"),
    )


async def first_lost(
    pipe: Pipeline,
    key: str,
    stream: str,
    outbox: Outbox,
    info: StreamInfo,
    before: StreamInfo | None,
    keeps: Kept,
) -> EntryId | None:
    """The oldest acknowledged entry that the broker has no more: nor has it what was acknowledged after that.
    None: nothing is lost. About log2(window) read-backs. Raises WatchError when that has to begin anew.

    `before` is what the stream was like at our last look.
    """
    kept, missing = outbox.kept_count(stream), 0
    if kept == 0 or await _is_safe(pipe, key, _kept(outbox, stream, 0), info, keeps):
        return None
    if before is not None and await _only_grew(pipe, key, before, info):
        return None
    had = await _certainly_had(pipe, key, stream, outbox, info)
    if _is_up_to(_kept(outbox, stream, 0), had):
        return None
    # Entry number `missing` from the newest on is gone, number `kept` is not (or there is none).
    while kept - missing > 1:
        middle = (kept + missing) // 2
        row = _kept(outbox, stream, middle)
        if _is_up_to(row, had) or await _is_safe(pipe, key, row, info, keeps):
            kept = middle
        else:
            missing = middle
    return _kept(outbox, stream, missing).entry_id


def _kept(outbox: Outbox, stream: str, newest_but: int) -> Row:
    """Raises WatchError where the window ends before: a full outbox gives it up while the broker is asked."""
    if not (rows := outbox.kept(stream, newest_but, 1)):
        raise WatchError("the outbox gave up its window")
    return rows[0]


async def holds(pipe: Pipeline, key: str, row: Row) -> bool:
    """Is our event what the stream has under the row's entry id?"""
    if row.entry_id is None:
        return False
    return row.event_id in await _event_ids(pipe, key, row.entry_id)


async def _event_ids(pipe: Pipeline, key: str, at: EntryId) -> list[str | None]:
    """Of the one entry under this id, or of none."""
    found: Any = await pipe.xrange(key, min=entry_id_text(at), max=entry_id_text(at))
    return [text(fields.get(b"id", fields.get("id"))) for _, fields in found]


async def _certainly_had(pipe: Pipeline, key: str, stream: str, outbox: Outbox, info: StreamInfo) -> EntryId:
    """The highest entry id of ours that this stream has had, whether it is there still; ZERO if unknown."""
    for had in (info.top, info.deleted):
        row = outbox.acknowledged(stream, had)
        # Another writer's entry may stand under the same id.
        if row is not None and await _event_ids(pipe, key, had) in ([], [row.event_id]):
            return had
    return ZERO


def _is_up_to(row: Row, had: EntryId) -> bool:
    return row.entry_id is not None and row.entry_id <= had


async def _only_grew(pipe: Pipeline, key: str, before: StreamInfo, info: StreamInfo) -> bool:
    """All that was added since `before` is there, so it is the same stream, and what is not there of the rest
    was taken out by somebody.
    """
    if before.added is None or info.added is None or not 0 <= info.added - before.added <= _MOST_NEWER:
        return False
    grown = info.added - before.added
    above = f"({entry_id_text(before.top)}"
    newer: Any = await pipe.xrange(key, min=above, count=grown + 1)
    return len(newer) == grown


async def _is_safe(pipe: Pipeline, key: str, row: Row, info: StreamInfo, keeps: Kept) -> bool:
    assert row.entry_id is not None
    trimmed = info.length >= keeps.maxlen and row.entry_id < info.first
    if trimmed or row.entry_id[0] < keeps.oldest_ms:
        return True
    return await holds(pipe, key, row)


def entry_id(value: bytes | str) -> EntryId:
    ms, _, sub = (text(value) or "0-0").partition("-")
    return int(ms), int(sub or 0)


def entry_id_text(value: EntryId) -> str:
    return f"{value[0]}-{value[1]}"


def text(value: object) -> str | None:
    """A reply that is a string, as one; None for anything else. Another writer's may be no UTF-8."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else None
