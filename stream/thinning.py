"""Which pictures of a faster camera are inspected (pure)."""


class Thinning:
    """Takes pictures at `fps` on average out of any rate, by the pictures' own times.

    A picture is due when its time is at most half an interval before its turn; turns go on from the one
    before, so jitter neither loses nor gains pictures. None takes every picture.
    """

    def __init__(self, fps: float | None) -> None:
        self._interval_s = 1.0 / fps if fps else 0.0
        self._turn: float | None = None

    def due(self, taken_at: float) -> bool:
        if not self._interval_s:
            return True
        if self._turn is None or self._is_elsewhere(taken_at):
            self._turn = taken_at
        if taken_at < self._turn - self._interval_s / 2:
            return False
        self._turn += self._interval_s
        return True

    def due_in_s(self, taken_at: float) -> float:
        """How much later a picture would have to be taken to be due; 0.0: it is."""
        if self._turn is None or self._is_elsewhere(taken_at):
            return 0.0
        return max(0.0, self._turn - self._interval_s / 2 - taken_at)

    def _is_elsewhere(self, taken_at: float) -> bool:
        """The clock jumped, or there was a gap."""
        assert self._turn is not None
        return abs(taken_at - self._turn) > 2 * self._interval_s
