"""How far consumer groups are behind, and a warning before the stream's end overtakes them.

`LagWatch` decides and is pure; `group_lags` asks the broker, one command per key.
"""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from .outbox import EntryId
from .replay import entry_id, entry_id_text

WARN_SHARE, CALM_SHARE = 0.5, 0.25


@dataclass(frozen=True, slots=True)
class GroupLag:
    """How far a group is behind. `lag`: entries that it has not read, None where nobody can say; `pending`:
    read and not acknowledged; `oldest_ms`: the time in the id of the oldest of both, None: there is none, or
    it was not asked for.
    """

    group: str
    lag: int | None
    pending: int
    oldest_ms: int | None = None

    @property
    def behind(self) -> int:
        """What was read and not acknowledged is trimmed too, so it counts."""
        return (self.lag or 0) + self.pending


@dataclass(slots=True)
class LagWatch:
    """Says each group once when it is behind by half of what the stream keeps, by number or by age, and again
    only after it had caught up.
    """

    maxlen: int
    max_age_s: float | None = None
    warned: set[str] = field(default_factory=set)

    def newly_behind(self, groups: Iterable[GroupLag], now_s: float) -> list[GroupLag]:
        """The groups to warn about now; `now_s` is UTC seconds, as the ids are."""
        behind = []
        for group in groups:
            share = self._share(group, now_s)
            if share >= WARN_SHARE and group.group not in self.warned:
                self.warned.add(group.group)
                behind.append(group)
            elif share < CALM_SHARE:
                self.warned.discard(group.group)
        return behind

    def _share(self, group: GroupLag, now_s: float) -> float:
        share = group.behind / self.maxlen
        if self.max_age_s is None or group.oldest_ms is None:
            return share
        return max(share, (now_s - group.oldest_ms / 1000) / self.max_age_s)


async def group_lags(
    client: Redis,
    key: str,
    *,
    unread: Callable[[EntryId], int | None] = lambda read_up_to: None,
    ages: bool = False,
) -> list[GroupLag]:
    """Each group of a stream. `unread` counts what came after an entry id where the server can't say it:
    before Redis 7, and where entries were deleted. With `ages` each group costs two questions more.
    """
    told: list[Any] = []
    with contextlib.suppress(ResponseError):  # no such key: nobody reads a stream that does not exist
        told = await client.xinfo_groups(key)
    groups = []
    for group in told:
        read_up_to = entry_id(group["last-delivered-id"])
        lag: int | None = group.get("lag")
        lag = unread(read_up_to) if lag is None else lag
        oldest_ms = await _oldest_ms(client, key, group["name"], read_up_to) if ages else None
        groups.append(GroupLag(_name(group["name"]), lag, int(group["pending"]), oldest_ms))
    return groups


async def _oldest_ms(client: Redis, key: str, group: bytes | str, read_up_to: EntryId) -> int | None:
    pending: Any = await client.xpending(key, group)
    unread: Any = []
    with contextlib.suppress(ResponseError):  # a group at the last possible id: nothing can come after it
        unread = await client.xrange(key, min=f"({entry_id_text(read_up_to)}", count=1)
    ids = [pending["min"]] if pending["pending"] else []
    ids += [found for found, _ in unread]
    return min((entry_id(found)[0] for found in ids), default=None)


def _name(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
