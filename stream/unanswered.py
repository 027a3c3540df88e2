"""How long a camera's pictures have gone without an inspection: silence of a camera that rests is none."""

import threading


class Unanswered:
    """One camera's. Any thread; all times are monotonic seconds, a picture is known by its `tick`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest = self._inspected = float("-inf")
        self._since = 0.0

    def taken(self, tick: float) -> None:
        """The engine took a picture. It may have been inspected before this is said."""
        with self._lock:
            if self._newest <= self._inspected:
                self._since = tick
            self._newest = max(self._newest, tick)

    def inspected(self, tick: float, now: float) -> None:
        """What came after this picture gets its time from now on."""
        with self._lock:
            self._inspected = max(self._inspected, tick)
            self._since = now

    def forget(self) -> None:
        """Nothing is waited for any more: what came may have been lost with a model that is gone."""
        with self._lock:
            self._inspected = max(self._inspected, self._newest)

    def for_s(self, now: float) -> float:
        """0.0 where no picture came since the last one that was inspected."""
        with self._lock:
            return now - self._since if self._newest > self._inspected else 0.0
