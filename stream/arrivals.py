"""How many pictures a second arrive (pure)."""

from collections import deque

_WINDOW_S = 5.0
_REMEMBERED = 64


class Arrivals:
    """All times are monotonic seconds."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_REMEMBERED)

    def note(self, now: float) -> None:
        """A picture arrived."""
        self._times.append(now)

    def fps(self, now: float) -> float:
        """Pictures a second over the last few seconds, or of the last two where they come further apart; 0.0
        before a second one.
        """
        recent = [at for at in self._times if now - at < _WINDOW_S]
        if len(recent) >= 2 and recent[-1] > recent[0]:
            return (len(recent) - 1) / (recent[-1] - recent[0])
        if len(self._times) < 2:
            return 0.0
        longest_s = max(self._times[-1] - self._times[-2], now - self._times[-1])
        return 1.0 / longest_s if longest_s > 0 else 0.0
