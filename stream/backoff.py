"""How long to wait before the next attempt at a camera (pure).

Exponential with equal jitter (after "Exponential Backoff And Jitter", AWS Architecture Blog, 2015): half of
the wait is fixed and half is chance, so that forty cameras behind one switch don't come back in the same
instant. Attempts are unlimited; the cap is small, because a camera that is back shall be live within three
seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass

FIRST_S = 0.25
CALM_AFTER_S = 10.0


def delay_s(failures: int, cap_s: float, chance: float) -> float:
    """Seconds to wait after the `failures`-th failure in a row (≥ 1); `chance` is uniform in [0, 1)."""
    longest = min(cap_s, FIRST_S * 2.0 ** min(failures - 1, 30))
    return longest * (0.5 + 0.5 * chance)


@dataclass
class Backoff:
    """Counts failures in a row. A camera that was live for `calm_after_s` starts from the beginning again.

    A camera that connects and breaks in a loop is not calm: its waits go on growing.
    """

    rng: Callable[[], float]
    calm_after_s: float = CALM_AFTER_S
    failures: int = 0

    def failed(self, live_s: float, cap_s: float, took_s: float = 0.0) -> float:
        """An attempt of `took_s` failed after `live_s` seconds with pictures; returns the seconds to wait.

        Waits count from the attempt's beginning: one that met its deadline has kept the camera in peace for
        that long already, and a network that is back meanwhile is not waited for twice.
        """
        if live_s >= self.calm_after_s:
            self.failures = 0
        self.failures += 1
        chance = self.rng()
        return max(delay_s(1, cap_s, chance), delay_s(self.failures, cap_s, chance) - took_s)
