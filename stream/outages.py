"""When a trouble is worth an event (pure): minimum duration, and a limit for one that comes and goes.

An outage is one kind of trouble: `down`, `refused` and `frozen` are out, `live` ends it, `connecting` is
neither: a camera that reconnects within `down_after_s` never was out. A health finding is another. Each is
told once and ended once.
"""

from collections import deque
from dataclasses import dataclass, replace
from typing import Literal

from .condition import CameraState, State
from .health import Finding

_OUT: frozenset[State] = frozenset({"down", "refused", "frozen"})


@dataclass(frozen=True, slots=True)
class OutagePolicy:
    """A trouble is told after `min_out_s`, its end after it was gone for `min_up_s`.

    After `flaps` of them within `flap_window_s` the next end is only told after `settle_s` without, so a
    loose cable makes a handful of events an hour, and not a thousand.
    """

    min_out_s: float = 1.0
    min_up_s: float = 1.0
    flaps: int = 3
    flap_window_s: float = 600.0
    settle_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Outage:
    """`kind` is "camera.down" or "camera.up".

    `lasted_s` is 0 for a down. `flapping`: ends are held back. `count`: outages since something was told.
    """

    kind: str
    camera: str
    state: State
    reason: str
    lasted_s: float
    flapping: bool
    count: int = 1


@dataclass(frozen=True, slots=True)
class HealthChange:
    """A finding began or ended. `count`: how often it came since something was told of it."""

    camera: str
    finding: Finding
    began: bool
    lasted_s: float
    flapping: bool
    count: int = 1


class Trouble:
    """One thing that is wrong or is not. `update` says "began", "ended" or None."""

    def __init__(self, policy: OutagePolicy) -> None:
        self._policy = policy
        self._told_at: deque[float] = deque(maxlen=max(1, policy.flaps))
        self._is_wrong: bool | None = None
        self._changed_at: float | None = None
        self._began_at: float | None = None
        self.count = 0
        self.lasted_s = 0.0

    def retune(self, policy: OutagePolicy) -> None:
        """Another policy from now on; what was told stays told."""
        self._policy = policy
        self._told_at = deque(self._told_at, maxlen=max(1, policy.flaps))

    def update(self, is_wrong: bool | None, now: float) -> Literal["began", "ended"] | None:
        """`now` in monotonic seconds; None says neither wrong nor right."""
        if self._changed_at is None or is_wrong != self._is_wrong:
            self._changed_at = now
            self.count += is_wrong is True
        self._is_wrong = is_wrong
        held_s = now - self._changed_at
        if is_wrong and self._began_at is None and held_s >= self._policy.min_out_s:
            return self._begin(now)
        if is_wrong is False and self._began_at is not None and held_s >= self._needed_s(now):
            return self._end(now)
        return None

    def flapping(self, now: float) -> bool:
        """True while ends are held back."""
        full = len(self._told_at) == self._told_at.maxlen
        return full and now - self._told_at[0] <= self._policy.flap_window_s

    def _begin(self, now: float) -> Literal["began"]:
        self._began_at, self.lasted_s = now, 0.0
        self._told_at.append(now)
        return "began"

    def _end(self, now: float) -> Literal["ended"]:
        self.lasted_s, self._began_at = 0.0 if self._began_at is None else now - self._began_at, None
        return "ended"

    def _needed_s(self, now: float) -> float:
        return self._policy.settle_s if self.flapping(now) else self._policy.min_up_s


class Outages:
    """One camera's outages. `update` is called at every change of state and about ten times a second."""

    def __init__(self, policy: OutagePolicy) -> None:
        self._trouble = Trouble(policy)

    def retune(self, policy: OutagePolicy) -> None:
        """Another policy from now on."""
        self._trouble.retune(policy)

    def update(self, state: CameraState, now: float) -> Outage | None:
        """What is to be told at `now` (monotonic seconds), or None."""
        wrong = None if state.state == "connecting" else state.state in _OUT
        told = self._trouble.update(wrong, now)
        if told is None:
            return None
        trouble, kind = self._trouble, "camera.down" if told == "began" else "camera.up"
        flapping, count = trouble.flapping(now), trouble.count
        trouble.count = 0
        return Outage(kind, state.camera, state.state, state.reason, trouble.lasted_s, flapping, count)


class HealthChanges:
    """What one camera's findings are worth telling. Durations were kept by `health.Health` already."""

    def __init__(self, camera: str, policy: OutagePolicy) -> None:
        self._camera = camera
        self._policy = _without_durations(policy)
        self._troubles: dict[str, Trouble] = {}
        self._last: dict[str, Finding] = {}

    def retune(self, policy: OutagePolicy) -> None:
        """Another policy from now on."""
        self._policy = _without_durations(policy)
        for trouble in self._troubles.values():
            trouble.retune(self._policy)

    def update(self, findings: tuple[Finding, ...], now: float) -> list[HealthChange]:
        """What is to be told at `now` (monotonic seconds)."""
        here = {finding.kind: finding for finding in findings}
        self._last |= here
        for kind in here.keys() - self._troubles.keys():
            self._troubles[kind] = Trouble(self._policy)
        return [
            self._change(kind, trouble, told == "began", now)
            for kind, trouble in self._troubles.items()
            if (told := trouble.update(kind in here, now)) is not None
        ]

    def _change(self, kind: str, trouble: Trouble, began: bool, now: float) -> HealthChange:
        count, trouble.count = trouble.count, 0
        return HealthChange(
            self._camera, self._last[kind], began, trouble.lasted_s, trouble.flapping(now), count
        )


def _without_durations(policy: OutagePolicy) -> OutagePolicy:
    return replace(policy, min_out_s=0.0, min_up_s=0.0)
