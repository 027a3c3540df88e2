"""What the broker lost of what it had acknowledged: restarted empty, restored from a backup, an older
replica.

A broker loses the newest entries, never some in between. So the window of acknowledged entries is bisected:
the newest one that is still there under our event id ends what was kept; everything after it is sent again.
Entries before the stream's first one in a stream at its full length were trimmed, not lost.

Nor is lost what somebody deletes (XDEL, XTRIM): the stream remembers the highest id it ever had and the
highest that was deleted, and where one of these is an entry of ours, this very stream had everything up to
it. A broker that lost entries has a lower top. One case can't be told apart, and is taken for a loss: all of
ours trimmed away and a foreign entry after it; and so is a key that was deleted as a whole.
"""

from dataclasses import dataclass
from typing import Any

from redis.asyncio.client import Pipeline
from redis.exceptions import ResponseError

from .outbox import EntryId, Outbox, Row

ZERO: EntryId = (0, 0)


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream at the broker: the highest id it ever had, its first entry's, how many entries it has, and the
    highest id that XDEL took (unknown before Redis 7).
    """

    top: EntryId = ZERO
    first: EntryId = ZERO
    length: int = 0
    deleted: EntryId = ZERO


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
    )


async def lost_rows(
    pipe: Pipeline, key: str, stream: str, outbox: Outbox, info: StreamInfo, maxlen: int
) -> list[Row]:
    """The acknowledged entries that the broker has no more, oldest first; about log2(window) read-backs."""
    kept, missing = outbox.kept_count(stream), 0
    if kept == 0 or await _is_safe(pipe, key, outbox.kept(stream, 0, 1)[0], info, maxlen):
        return []
    had = await _certainly_had(pipe, key, stream, outbox, info)
    if _is_up_to(outbox.kept(stream, 0, 1)[0], had):
        return []
    # Entry number `missing` from the newest on is gone, number `kept` is not (or there is none).
    while kept - missing > 1:
        middle = (kept + missing) // 2
        row = outbox.kept(stream, middle, 1)[0]
        if _is_up_to(row, had) or await _is_safe(pipe, key, row, info, maxlen):
            kept = middle
        else:
            missing = middle
    return outbox.kept(stream, 0, missing + 1)[::-1]


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


async def _is_safe(pipe: Pipeline, key: str, row: Row, info: StreamInfo, maxlen: int) -> bool:
    if info.length >= maxlen and row.entry_id is not None and row.entry_id < info.first:
        return True
    return await holds(pipe, key, row)


def entry_id(value: bytes | str) -> EntryId:
    ms, _, sub = (text(value) or "0-0").partition("-")
    return int(ms), int(sub or 0)


def entry_id_text(value: EntryId) -> str:
    return f"{value[0]}-{value[1]}"


def text(value: object) -> str | None:
    """A reply that is a string, as one; None for anything else."""
    return value.decode() if isinstance(value, bytes) else value if isinstance(value, str) else None
