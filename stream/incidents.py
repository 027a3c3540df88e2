"""Inspections of one camera → incidents that are opened, updated and closed. Pure: `now` is an argument.

One defect is one incident. It opens when it was seen in `on_frames` frames in a row and closes when it was
not seen in `off_frames` frames in a row. A defect of a new frame belongs to the incident whose predicted
place it overlaps or is nearest to (see tracking.py). An incident always ends: gone, its camera went down,
nothing was inspected for `silent_s`, another part came, or the program stopped.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from engine.core import Defect, Frame, Inspection, ModelInfo

from .events import Clock, Phase, Severity, Verdict
from .tracking import Motion, Track, assign, overlaps

SEVERITIES: tuple[Severity, ...] = ("minor", "major", "critical")
SILENT_S = 30.0


@dataclass(frozen=True, slots=True)
class IncidentPolicy:
    """What one camera's incidents go by. Ratios are of the alarm level; an area of None says nothing.

    `silent_s` bounds an incident whose camera is inspected no more; `max_open` counts candidates too.
    """

    on_frames: int = 2
    off_frames: int = 8
    update_every_s: float = 1.0
    cooldown_s: float = 0.0
    silent_s: float = SILENT_S
    major_from_ratio: float = 1.5
    critical_from_ratio: float = 2.5
    major_from_area_px: int | None = None
    critical_from_area_px: int | None = None
    max_open: int = 32
    motion: Motion = field(default_factory=Motion)


@dataclass(frozen=True, slots=True)
class Decision:
    """One thing decided about one incident; on close `regions` and `score_ratio` are the worst ones."""

    phase: Phase
    defect_id: str
    verdict: Verdict
    severity: Severity
    reason: str | None
    captured_at: float
    clock: Clock
    opened_at: float
    frames: int
    score_ratio: float
    regions: tuple[Defect, ...]
    frame_size_px: tuple[int, int]
    model: ModelInfo
    part_id: str | None
    inspection: Inspection | None


@dataclass(slots=True)
class _Incident:
    """A track and what is said of it; `id` is None while it is a candidate, seen in too few frames to be
    told.
    """

    track: Track
    inspection: Inspection
    seen_at: float
    id: str | None = None
    opened_at: float = 0.0
    frames: int = 1
    hits: int = 1
    misses: int = 0
    updated_at: float = 0.0
    severity: int = 0
    worst_ratio: float = 0.0
    worst: tuple[Defect, ...] = ()
    worst_by: ModelInfo | None = None


@dataclass(frozen=True, slots=True)
class _Scar:
    """Where an incident was closed, for the cool-down."""

    box: tuple[float, float, float, float]
    until: float


class Incidents:
    """The incidents of one camera. Not thread-safe: one caller.

    `now` is monotonic seconds and never falls. `suppressed` counts incidents that the cool-down kept quiet,
    `overflowed` defects beyond `max_open` incidents at a time.
    """

    def __init__(self, camera: str, policy: IncidentPolicy, new_id: Callable[[], str]) -> None:
        self.camera = camera
        self.policy = policy
        self.suppressed = 0
        self.overflowed = 0
        self._new_id = new_id
        self._all: list[_Incident] = []
        self._scars: list[_Scar] = []
        self._part_id: str | None = None

    @property
    def open_ids(self) -> tuple[str, ...]:
        return tuple(i.id for i in self._all if i.id is not None)

    def update(self, inspection: Inspection, now: float) -> list[Decision]:
        """What one inspected frame changes; frames of a camera come in the order they were taken."""
        decisions = self._part_changed(inspection.frame, now)
        self._scars = [scar for scar in self._scars if scar.until > now]
        matched, fresh = assign(
            [i.track for i in self._all],
            inspection.defects,
            inspection.frame.tick,
            self._size(inspection),
            self.policy.motion,
        )
        for incident, defects in zip(list(self._all), matched, strict=True):
            if defects:
                decisions += self._seen(incident, defects, inspection, now)
            else:
                decisions += self._missed(incident, inspection, now)
        for defects in fresh:
            decisions += self._appeared(defects, inspection, now)
        return decisions

    def end(self, reason: str, now: float, verdict: Verdict = "unknown") -> list[Decision]:
        """Closes whatever is open, because nothing more will be seen: camera down, stopped, model removed."""
        ended = [self._close(i, reason, verdict, None) for i in self._all if i.id is not None]
        self._all.clear()
        return ended

    def tick(self, now: float) -> list[Decision]:
        """Closes what nothing was inspected about for `silent_s`; call it about once a second.

        What becomes of a surface is unknown then; what stood on a part was decided with the part.
        """
        silent = [i for i in self._all if now - i.seen_at > self.policy.silent_s]
        self._all = [i for i in self._all if i not in silent]
        return [
            self._close(i, "no inspections", "unknown" if i.inspection.frame.part_id is None else "ng", None)
            for i in silent
            if i.id is not None
        ]

    def severity_of(self, inspection: Inspection | None) -> Severity:
        """Of one picture by itself, whatever stood before; the least if no defect is on it."""
        defects = inspection.defects if inspection else ()
        return SEVERITIES[self._weight(defects) if defects else 0]

    def _part_changed(self, frame: Frame, now: float) -> list[Decision]:
        """A frame without a part id (the camera runs free between triggers) says nothing about parts."""
        if frame.part_id is None or frame.part_id == self._part_id:
            return []
        self._part_id = frame.part_id
        return self.end("next part", now, verdict="ng")

    def _seen(
        self, i: _Incident, defects: tuple[Defect, ...], inspection: Inspection, now: float
    ) -> list[Decision]:
        i.track.move(defects, inspection.frame.tick, self.policy.motion)
        i.inspection, i.seen_at, i.misses = inspection, now, 0
        i.hits += 1
        i.frames += 1
        risen = self._weigh(i, defects)
        if i.id is None:
            return self._try_open(i, now)
        if not risen and now - i.updated_at < self.policy.update_every_s:
            return []
        i.updated_at = now
        return [self._decide(i, "update", "ng", None)]

    def _missed(self, i: _Incident, inspection: Inspection, now: float) -> list[Decision]:
        i.misses, i.hits, i.seen_at = i.misses + 1, 0, now
        if i.id is not None and i.misses < self.policy.off_frames:
            return []
        self._all.remove(i)
        if i.id is None:
            return []
        if self.policy.cooldown_s > 0:
            self._scars.append(_Scar(i.track.box, now + self.policy.cooldown_s))
        return [self._close(i, "gone", "ng", inspection)]

    def _appeared(self, defects: tuple[Defect, ...], inspection: Inspection, now: float) -> list[Decision]:
        if len(self._all) >= self.policy.max_open:
            self.overflowed += 1
            return []
        incident = _Incident(Track.start(defects, inspection.frame.tick), inspection, now)
        self._weigh(incident, defects)
        self._all.append(incident)
        return self._try_open(incident, now)

    def _try_open(self, i: _Incident, now: float) -> list[Decision]:
        if i.hits < self.policy.on_frames:
            return []
        if any(overlaps(scar.box, i.track.box) for scar in self._scars):
            self.suppressed += i.hits == self.policy.on_frames
            return []
        i.id, i.opened_at, i.updated_at = self._new_id(), i.inspection.frame.taken_at, now
        return [self._decide(i, "open", "ng", None)]

    def _weigh(self, i: _Incident, defects: tuple[Defect, ...]) -> bool:
        """Keeps the worst that was seen; True when the severity rose."""
        ratio = max(d.peak for d in defects)
        if ratio > i.worst_ratio:
            i.worst_ratio, i.worst, i.worst_by = ratio, defects, i.inspection.model
        before, i.severity = i.severity, max(i.severity, self._weight(defects))
        return i.severity > before

    def _weight(self, defects: tuple[Defect, ...]) -> Literal[0, 1, 2]:
        return severity(max(d.peak for d in defects), sum(d.area_px for d in defects), self.policy)

    def _close(self, i: _Incident, reason: str, verdict: Verdict, inspection: Inspection | None) -> Decision:
        return self._decide(i, "close", verdict, reason, inspection)

    def _decide(
        self, i: _Incident, phase: Phase, verdict: Verdict, reason: str | None, by: Inspection | None = None
    ) -> Decision:
        assert i.id is not None
        frame = (by or i.inspection).frame
        closing = phase == "close"
        return Decision(
            phase=phase,
            defect_id=i.id,
            verdict=verdict,
            severity=SEVERITIES[i.severity],
            reason=reason,
            captured_at=frame.taken_at,
            clock=clock_name(frame.clock),
            opened_at=i.opened_at,
            frames=i.frames,
            score_ratio=i.worst_ratio if closing else max(d.peak for d in i.track.defects),
            regions=i.worst if closing else i.track.defects,
            frame_size_px=self._size(i.inspection),
            # A ratio is of the alarm level that it was measured by, which may have been moved since.
            model=(i.worst_by if closing else None) or i.inspection.model,
            part_id=i.inspection.frame.part_id,
            inspection=by if closing else i.inspection,
        )

    @staticmethod
    def _size(inspection: Inspection) -> tuple[int, int]:
        height, width = inspection.frame.pixels.shape[:2]
        return width, height


def severity(ratio: float, area_px: int, policy: IncidentPolicy) -> Literal[0, 1, 2]:
    """Index into SEVERITIES, by how far above the alarm level or how large."""
    if ratio >= policy.critical_from_ratio or _reaches(area_px, policy.critical_from_area_px):
        return 2
    if ratio >= policy.major_from_ratio or _reaches(area_px, policy.major_from_area_px):
        return 1
    return 0


def _reaches(area_px: int, limit_px: int | None) -> bool:
    return limit_px is not None and area_px >= limit_px


def clock_name(name: str) -> Clock:
    """A frame's clock as the wire form knows it; an unknown one is the host's."""
    return "ntp" if name == "ntp" else "camera" if name == "camera" else "host"
