"""What was decided, as events without a seq yet (the outbox gives it). Pure but for the clock."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.core import Defect, Inspection, ModelInfo

from .events import (
    NO_CAMERA,
    NOT_AVAILABLE,
    Event,
    Kind,
    Model,
    Phase,
    Region,
    Severity,
    Verdict,
    rfc3339,
)
from .ids import Uuid7
from .incidents import Decision, clock_name

# What a fact is called when it is over; a camera's finding ("camera.dark") keeps its name.
_CLOSED = {"camera.down": "camera.up", "defect.open": "defect.close"}


@dataclass(frozen=True, slots=True)
class Part:
    """A triggered part: ids are the gateway's, `recipe` may be unknown."""

    part_id: str
    job_id: str = NOT_AVAILABLE
    recipe: str = NOT_AVAILABLE


class Drafts:
    """Makes events for one line. `now_s` is UTC seconds and becomes `detected_at`.

    `recipes` are those that somebody has chosen, by camera: what stands in events whose trigger names none.
    """

    def __init__(self, site: str, line: str, config_sha256: str | None, now_s: Callable[[], float]) -> None:
        self.site, self.line, self.config_sha256 = site, line, config_sha256
        self.recipes: dict[str, str] = {}
        self._now_s = now_s
        self.new_id = Uuid7(now_s)

    def defect(self, camera: str, d: Decision, image: str | None, heatmap: str | None) -> Event:
        """An incident opened, changed or ended."""
        return self._event(
            "defect",
            d.phase,
            d.phase,
            camera,
            defect_id=d.defect_id,
            verdict=d.verdict,
            severity=d.severity,
            reason=d.reason,
            score=_raw_score(d.score_ratio, d.model),
            threshold=d.model.threshold,
            score_ratio=round(d.score_ratio, 4),
            captured_at=rfc3339(d.captured_at),
            opened_at=rfc3339(d.opened_at),
            clock=d.clock,
            frames=d.frames,
            regions=tuple(region(defect, d.frame_size_px) for defect in d.regions),
            part_id=d.part_id or NOT_AVAILABLE,
            model=_model(d.model),
            image=image,
            heatmap=heatmap,
            latency_ms=self._latency_ms(d.inspection),
        )

    def restarted(self, opened: Event) -> Event:
        """The close of an incident that was open when the last run was killed: nobody watched since."""
        return self.closed(opened, "restarted")

    def closed(self, opened: Event, reason: str) -> Event:
        """The close of an incident of which only its `open` is known; its verdict is unknown."""
        now = rfc3339(self._now_s())
        return opened.model_copy(
            update={
                "id": self.new_id(),
                "phase": "close",
                "type": _CLOSED.get(opened.type, opened.type),
                "verdict": "unknown",
                "reason": _sendable(reason),
                "captured_at": now,
                "detected_at": now,
                "published_at": None,
                "opened_at": opened.opened_at or opened.captured_at,
                "latency_ms": {},
                "config_sha256": self.config_sha256,
            }
        )

    def verdict(
        self,
        camera: str,
        part: Part,
        verdict: Verdict,
        reason: str | None,
        inspection: Inspection | None,
        **more: Any,
    ) -> Event:
        """The one answer to one trigger; without an inspection it is about now. `more` fields as they are."""
        known: dict[str, Any] = {} if inspection is None else self._inspected(inspection)
        return self._event(
            "part",
            "verdict",
            "close",
            camera,
            verdict=verdict,
            reason=reason,
            part_id=part.part_id,
            job_id=part.job_id,
            recipe=self._recipe(camera) if part.recipe == NOT_AVAILABLE else part.recipe,
            **known,
            **more,
        )

    def fact(
        self,
        kind: Kind,
        what: str,
        camera: str = NO_CAMERA,
        *,
        phase: Phase = "close",
        reason: str | None = None,
        severity: Severity = "minor",
        detail: Mapping[str, int | float | str] | None = None,
    ) -> Event:
        """Something about a camera or about Linewatch itself."""
        return self._event(
            kind, what, phase, camera, reason=reason, severity=severity, detail=dict(detail or {})
        )

    def _event(self, kind: Kind, what: str, phase: Phase, camera: str, **more: Any) -> Event:
        event_id, now = self.new_id(), rfc3339(self._now_s())
        fields: dict[str, Any] = {
            "id": event_id,
            "seq": 0,
            "kind": kind,
            "type": f"{kind}.{what}",
            "phase": phase,
            "defect_id": event_id,
            "site": self.site,
            "line": self.line,
            "camera": camera,
            "captured_at": now,
            "detected_at": now,
            "recipe": self._recipe(camera),
            "config_sha256": self.config_sha256,
        }
        if more.get("reason") is not None:
            more["reason"] = _sendable(more["reason"])
        return Event(**fields | more)

    def _recipe(self, camera: str) -> str:
        return self.recipes.get(camera, NOT_AVAILABLE)

    def _inspected(self, inspection: Inspection) -> dict[str, Any]:
        frame = inspection.frame
        height, width = frame.pixels.shape[:2]
        return {
            "captured_at": rfc3339(frame.taken_at),
            "clock": clock_name(frame.clock),
            "score": inspection.score,
            "threshold": inspection.model.threshold,
            "score_ratio": round(inspection.score_ratio, 4),
            "regions": tuple(region(d, (width, height)) for d in inspection.defects),
            "model": _model(inspection.model),
            "latency_ms": self._latency_ms(inspection),
        }

    def _latency_ms(self, inspection: Inspection | None) -> dict[str, float]:
        """Per stage; `capture_to_decide` is from the picture being taken until now; `publish` comes later."""
        if inspection is None:
            return {}
        stages = {name: round(seconds * 1000, 3) for name, seconds in inspection.timings_s.items()}
        return stages | {"capture_to_decide": round((self._now_s() - inspection.frame.taken_at) * 1000, 3)}


def region(defect: Defect, size_px: tuple[int, int]) -> Region:
    """A defect of a frame of (width, height) as the wire has it."""
    width, height = size_px
    x0, y0, x1, y1 = defect.box
    x, y = defect.centroid
    return Region(
        box=(_share(x0, width), _share(y0, height), _share(x1, width), _share(y1, height)),
        box_px=defect.box,
        area_px=defect.area_px,
        peak=round(defect.peak, 4),
        centroid=(_share(x, width), _share(y, height)),
        centroid_px=(round(x, 1), round(y, 1)),
    )


def _sendable(reason: str) -> str:
    """A file's name may hold bytes that are no UTF-8, and an event with them could not be stored."""
    return reason.encode(errors="backslashreplace").decode()


def _share(value: float, whole: int) -> float:
    return round(value / whole, 5)


def _raw_score(ratio: float, model: ModelInfo) -> float:
    return model.median + ratio * (model.threshold - model.median)


def _model(info: ModelInfo) -> Model:
    return Model(name=info.name, version=info.version, sha256=info.sha256)
