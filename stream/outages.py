"""When a camera's trouble is worth an event (pure): minimum duration, and a limit for a camera that flaps.

`down`, `refused` and `frozen` are outages, `live` ends one, `connecting` is neither: a camera that reconnects
within `down_after_s` never was out. Every outage is told once and ended once.
"""

from collections import deque
from dataclasses import dataclass

from .condition import CameraState, State

_OUT: frozenset[State] = frozenset({"down", "refused", "frozen"})


@dataclass(frozen=True, slots=True)
class OutagePolicy:
    """An outage is told after `min_out_s`, its end after `min_up_s` live.

    After `flaps` outages within `flap_window_s` the next end is only told after `settle_s` live, so a loose
    cable makes a handful of events an hour, and not a thousand.
    """

    min_out_s: float = 1.0
    min_up_s: float = 1.0
    flaps: int = 3
    flap_window_s: float = 600.0
    settle_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Outage:
    """`kind` is "camera.down" or "camera.up"; `lasted_s` is 0 for a down; `flapping`: ends are held back."""

    kind: str
    camera: str
    state: State
    reason: str
    lasted_s: float
    flapping: bool


class Outages:
    """One camera's outages. `update` is called at every change of state and about once a second."""

    def __init__(self, policy: OutagePolicy) -> None:
        self._policy = policy
        self._told: deque[float] = deque(maxlen=max(1, policy.flaps))
        self._state: State = "connecting"
        self._state_at: float | None = None
        self._down_at: float | None = None

    def update(self, state: CameraState, now: float) -> Outage | None:
        """What is to be told at `now` (monotonic seconds), or None."""
        kind = "out" if state.state in _OUT else state.state
        before = "out" if self._state in _OUT else self._state
        if self._state_at is None or kind != before:
            self._state_at = now
        self._state = state.state
        return self._decide(state, now - self._state_at, now)

    def _decide(self, state: CameraState, held_s: float, now: float) -> Outage | None:
        if state.state in _OUT and self._down_at is None and held_s >= self._policy.min_out_s:
            self._down_at = now
            self._told.append(now)
            return Outage("camera.down", state.camera, state.state, state.reason, 0.0, self._flapping(now))
        if state.state == "live" and self._down_at is not None and held_s >= self._needed_s(now):
            lasted_s, self._down_at = now - self._down_at, None
            return Outage("camera.up", state.camera, state.state, state.reason, lasted_s, self._flapping(now))
        return None

    def _flapping(self, now: float) -> bool:
        full = len(self._told) == self._told.maxlen
        return full and now - self._told[0] <= self._policy.flap_window_s

    def _needed_s(self, now: float) -> float:
        return self._policy.settle_s if self._flapping(now) else self._policy.min_up_s
