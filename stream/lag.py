"""Warns before MAXLEN trims entries that a consumer group has not read. The decision is pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from .consumer import GroupLag

WARN_SHARE, CALM_SHARE = 0.5, 0.25


@dataclass(slots=True)
class LagWatch:
    """Says each group once when it is behind by half of `maxlen`, and again only after it had caught up."""

    maxlen: int
    warned: set[str] = field(default_factory=set)

    def newly_behind(self, groups: Iterable[GroupLag]) -> list[GroupLag]:
        """The groups to warn about now. What was read and not acknowledged is trimmed too, so it counts."""
        behind = []
        for group in groups:
            share = ((group.lag or 0) + group.pending) / self.maxlen
            if share >= WARN_SHARE and group.group not in self.warned:
                self.warned.add(group.group)
                behind.append(group)
            elif share < CALM_SHARE:
                self.warned.discard(group.group)
        return behind
