"""What the page and the metrics are told of the line, gathered as it happens. No waits; event loop only, but
for `taken`.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from engine.core import Frame, Inspection
from engine.meter import SECONDS_BOUNDS

from .condition import CameraState
from .events import Event, utc_seconds
from .unanswered import Unanswered
from .web.view import CameraView, Histogram, IncidentView, ModelView, Result, VerdictView

RECENT_INCIDENTS = 200
_WINDOW_S = 5.0
_WINDOW_FRAMES = 256


@dataclass(slots=True)
class _Seen:
    """One camera: when its last inspections came (monotonic s) and how long each took from capture (s)."""

    state: CameraState
    times: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_WINDOW_FRAMES))
    verdict: VerdictView | None = None
    model: ModelView | None = None
    unanswered: Unanswered = field(default_factory=Unanswered)
    counts: dict[Result, int] = field(default_factory=lambda: {"ok": 0, "ng": 0, "unknown": 0})


class Overview:
    """Cameras in the order in which they were added; incidents newest first, at most RECENT_INCIDENTS."""

    def __init__(self, tick_s: Callable[[], float] = time.monotonic) -> None:
        self._tick_s = tick_s
        self._cameras: dict[str, _Seen] = {}
        self._incidents: dict[str, IncidentView] = {}
        self._to_event: dict[str, list[int]] = {}
        self._to_event_total: dict[str, float] = {}
        self.phases: dict[str, int] = {}

    def add(self, camera: str) -> None:
        """A camera of the config file, not started yet."""
        self._cameras[camera] = _Seen(CameraState(camera, "connecting", "not started yet", time.time()))
        self._to_event[camera] = [0] * (len(SECONDS_BOUNDS) + 1)
        self._to_event_total[camera] = 0.0

    def remove(self, camera: str) -> None:
        """A camera that the config file names no more."""
        self._cameras.pop(camera, None)
        self._to_event.pop(camera, None)
        self._to_event_total.pop(camera, None)

    def arrange(self, cameras: Sequence[str]) -> None:
        """Show them in this order."""
        self._cameras = {name: self._cameras[name] for name in cameras if name in self._cameras}

    def state(self, state: CameraState) -> None:
        """A camera changed its state."""
        if seen := self._cameras.get(state.camera):
            seen.state = state

    def model(self, camera: str, model: ModelView | None) -> None:
        """A camera is inspected with this model from now on; None: not inspected."""
        if seen := self._cameras.get(camera):
            seen.model = model
            seen.unanswered.forget()

    def taken(self, frame: Frame) -> None:
        """The engine took a picture. Any thread."""
        if seen := self._cameras.get(frame.camera):
            seen.unanswered.taken(frame.tick)

    def inspected(self, inspection: Inspection) -> None:
        """The engine answered."""
        if seen := self._cameras.get(inspection.frame.camera):
            now = self._tick_s()
            seen.times.append((now, now - inspection.frame.tick))
            seen.unanswered.inspected(inspection.frame.tick, now)
            verdict: Result = "ng" if inspection.defects else "ok"
            seen.counts[verdict] += 1
            count = len(inspection.defects)
            ratio = max((d.peak for d in inspection.defects), default=inspection.score_ratio)
            seen.verdict = VerdictView(verdict, ratio, count, inspection.frame.taken_at)

    def recorded(self, events: Sequence[Event]) -> None:
        """Events were stored."""
        for event in events:
            if event.kind == "defect":
                self.phases[event.phase] = self.phases.get(event.phase, 0) + 1
                self._remember(event)

    def published(self, camera: str, seconds: float) -> None:
        """An event of this camera reached the broker so long after its picture was captured."""
        if counts := self._to_event.get(camera):
            counts[sum(seconds > bound for bound in SECONDS_BOUNDS)] += 1
            self._to_event_total[camera] += seconds

    def cameras(self, age_s: Callable[[str], float | None]) -> list[CameraView]:
        """Every camera now; `age_s` says how old its last new picture is."""
        return [self._view(name, seen, age_s(name)) for name, seen in self._cameras.items()]

    def unanswered_s(self, camera: str) -> float:
        """For how long its pictures have come and none was inspected; 0.0: there is none to inspect."""
        return self._cameras[camera].unanswered.for_s(self._tick_s())

    def incidents(self, limit: int) -> list[IncidentView]:
        """Newest first."""
        return list(self._incidents.values())[: -limit - 1 : -1]

    def counts(self, camera: str) -> Mapping[Result, int]:
        """Inspected pictures since start by verdict."""
        return dict(self._cameras[camera].counts)

    def capture_to_event(self) -> Mapping[str, Histogram]:
        """Seconds from capture to the broker's answer, by camera."""
        return {
            name: Histogram(SECONDS_BOUNDS, tuple(counts), self._to_event_total[name])
            for name, counts in self._to_event.items()
        }

    def _view(self, name: str, seen: _Seen, age_s: float | None) -> CameraView:
        now = self._tick_s()
        recent = [(at, took) for at, took in seen.times if now - at <= _WINDOW_S]
        return CameraView(
            name,
            seen.state.state,
            "" if seen.state.state == "live" else seen.state.reason,
            seen.state.since,
            fps=round(_per_s(len(recent), seen.times, now), 2) if seen.times else None,
            latency_ms=round(1000.0 * median(took for _, took in recent), 1) if recent else None,
            frame_age_s=age_s,
            verdict=seen.verdict,
            model=seen.model,
        )

    def _remember(self, event: Event) -> None:
        at = utc_seconds(event.detected_at)
        old = self._incidents.get(event.defect_id)
        opened_at = utc_seconds(event.opened_at) if event.opened_at else at
        self._incidents[event.defect_id] = IncidentView(
            event.defect_id,
            event.camera,
            event.phase,
            event.severity,
            event.score_ratio or 0.0,
            old.opened_at if old else opened_at,
            at,
            closed_at=at if event.phase == "close" else None,
            box=event.regions[0].box if event.regions else (old.box if old else None),
            image=event.image or (old.image if old else None),
            heatmap=event.heatmap or (old.heatmap if old else None),
        )
        while len(self._incidents) > RECENT_INCIDENTS:
            del self._incidents[next(iter(self._incidents))]


def _per_s(recent: int, times: Sequence[tuple[float, float]], now: float) -> float:
    """So many in the window; in less of it where a camera just began, or more came than are remembered."""
    if 1 < recent == len(times) and now > times[0][0]:
        return (recent - 1) / (now - times[0][0])
    return recent / _WINDOW_S
