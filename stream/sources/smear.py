"""What the loss of one picture does to those that follow it (pure)."""

_REFRESHED_S = 10.0


class Smear:
    """After a loss all pictures until the next key picture show the damage, and decoders flag few of them.

    Measured with 0.3 % of packets lost: 16 of 148 bad pictures are flagged, 142 stand before a key picture. A
    camera that refreshes bit by bit sends none: hence the limit. All times are monotonic seconds.
    """

    def __init__(self) -> None:
        self._begun_at: float | None = None

    def begin(self, now: float) -> None:
        """Something was lost."""
        self._begun_at = now

    def covers(self, now: float, *, is_key: bool) -> bool:
        """Whether the picture that was decoded now shows the damage; `is_key`: it needs no other one."""
        if is_key or (self._begun_at is not None and now - self._begun_at > _REFRESHED_S):
            self._begun_at = None
        return self._begun_at is not None
