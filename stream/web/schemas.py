"""What the REST API answers: pydantic forms of the view, instants in RFC 3339 UTC. And what it is asked.

OpenAPI is made from these.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from .view import LineStats, LineView, Result, State


class In(BaseModel):
    """A request's body. A key that isn't known was meant for one that is, so it is refused."""

    model_config = ConfigDict(extra="forbid")


class _Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class VerdictOut(_Out):
    """The last answer; score_ratio 1.0 = alarm level."""

    verdict: Result
    score_ratio: float
    defects: int
    at: datetime


class ModelOut(_Out):
    """The model in use; `by_hand`: its alarm level was set on the page or by a command, and goes with it."""

    name: str
    version: int
    threshold: float | None
    by_hand: bool


class CameraOut(_Out):
    """One camera now."""

    name: str
    state: State
    reason: str
    since: datetime
    fps: float | None
    latency_ms: float | None
    frame_age_s: float | None
    verdict: VerdictOut | None
    model: ModelOut | None
    not_inspected: str


class IncidentOut(_Out):
    """One defect from its opening to its close; box is 0–1 of the frame: x0, y0, x1, y1."""

    defect_id: str
    camera: str
    phase: Literal["open", "update", "close"]
    severity: Literal["minor", "major", "critical"]
    score_ratio: float
    opened_at: datetime
    updated_at: datetime
    closed_at: datetime | None
    box: tuple[float, float, float, float] | None
    image: str | None
    heatmap: str | None
    feedback: Literal["false_alarm", "confirmed"] | None


class CollectionOut(_Out):
    """Good pictures being collected of one camera, or how that ended."""

    camera: str
    wanted: int
    written: int
    skipped: dict[str, int]
    at_work: bool
    reason: str


class TrainingOut(_Out):
    """The training at hand, or the last one; `left_s` None: not known yet."""

    camera: str
    model: str
    phase: Literal["preparing", "learning", "finishing", "done", "failed", "cancelled"]
    at_work: bool
    step: int
    steps: int
    left_s: float | None
    began_at: datetime
    ended_at: datetime | None
    version: int | None
    good_pictures: int | None
    reason: str
    notes: list[str]


class LineOut(_Out):
    """What every open page is told once a second. `page`: another word when the page's own files are others;
    an open page then loads itself anew. `kept` is another number when kept pictures came or went, `answered`
    when somebody answered one.
    """

    site: str
    line: str
    now: datetime
    ready: bool
    reasons: list[str]
    cameras: list[CameraOut]
    incidents: list[IncidentOut]
    kept: int
    page: str
    answered: int = 0
    training: TrainingOut | None = None
    collecting: list[CollectionOut] = []


class PageOut(_Out):
    """The page's own work since start."""

    viewers: int
    drawn: int
    overtaken: int
    dropped: int
    removed: dict[str, int]


class OutboxOut(_Out):
    """Events that the broker has not acknowledged yet."""

    pending: int | None
    oldest_s: float | None
    dropped: int | None


class StatsOut(_Out):
    """Counters since start."""

    frames: dict[str, dict[str, int]]
    reconnects: dict[str, dict[str, int]]
    events: dict[str, int]
    queue_depth: dict[str, int]
    outbox: OutboxOut
    page: PageOut


class ProbeOut(_Out):
    """A probe's answer; `reasons` are sentences, empty when all is well."""

    ok: bool
    reasons: list[str] = []


class ScaleOut(_Out):
    """The heat map's one colour scale: (calibrated value, CSS colour)."""

    alarm: float
    top: float
    stops: list[tuple[float, str]]


class ErrorOut(BaseModel):
    """Why not, in one sentence."""

    detail: str


def cameras_out(view: LineView) -> list[CameraOut]:
    """All cameras in the order of the config file."""
    return [CameraOut.model_validate(camera) for camera in view.cameras()]


def incidents_out(view: LineView, limit: int) -> list[IncidentOut]:
    """The newest incidents first."""
    return [IncidentOut.model_validate(incident) for incident in view.incidents(limit)]


def line_out(view: LineView, now: datetime, incidents: int, kept: int, page: str) -> LineOut:
    """The whole state of the line; `kept` is another number when kept pictures came or went."""
    reasons = list(view.not_ready())
    return LineOut(
        site=view.site,
        line=view.line,
        now=now,
        ready=not reasons,
        reasons=reasons,
        cameras=cameras_out(view),
        incidents=incidents_out(view, incidents),
        kept=kept,
        page=page,
    )


def stats_out(stats: LineStats, page: PageOut) -> StatsOut:
    """Counters, nested by camera."""
    return StatsOut(
        frames=_nested(stats.frames),
        reconnects=_nested(stats.reconnects),
        events=dict(stats.events),
        queue_depth=dict(stats.queue_depth),
        outbox=OutboxOut(
            pending=stats.outbox_pending, oldest_s=stats.outbox_oldest_s, dropped=stats.outbox_dropped
        ),
        page=page,
    )


def _nested(flat: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    out: dict[str, dict[str, int]] = {}
    for (camera, key), count in flat.items():
        out.setdefault(camera, {})[key] = count
    return out
