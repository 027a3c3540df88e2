"""Whether the host's clock can be believed where something is removed for its age. Pure."""

import logging

log = logging.getLogger(__name__)

_SET_S, _FIRST_S, _DAY_S = 3600.0, 3600.0, 86_400.0


class SteadyDays:
    """Whether the ages of `what` can be believed: not in the first hour, nor for a day after the host's clock
    was set by more than an hour.

    One clock that is years ahead for a moment would else make everything too old, and many a machine starts
    with a wrong one, which a time server sets some minutes later. One thread.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._offset_s: float | None = None
        self._believed_at = float("-inf")

    def are(self, now: float, tick: float) -> bool:
        """`now` in UTC seconds, `tick` in seconds of a clock that nobody sets."""
        offset_s = now - tick
        if self._offset_s is None:
            self._believed_at = tick + _FIRST_S
        elif abs(offset_s - self._offset_s) > _SET_S:
            self._believed_at = tick + _DAY_S
            log.warning(
                "the clock was set by %.0f s: for a day no %s are removed for their age",
                *(offset_s - self._offset_s, self._what),
            )
        self._offset_s = offset_s
        return tick >= self._believed_at
