"""What the page may know of the line: plain snapshots, and callables that take them.

The web room knows no camera, engine, broker or database; stream/app.py hands it one LineView. Every
callable is called on the event loop, must return at once (a copy, never a wait), and never raises. Times
are UTC seconds.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from engine.core import ModelInfo

State = Literal["connecting", "live", "frozen", "down", "refused"]
Result = Literal["ok", "ng", "unknown"]


@dataclass(frozen=True, slots=True)
class VerdictView:
    """The last answer on a camera's picture; `score_ratio` 1.0 = alarm level."""

    verdict: Result
    score_ratio: float
    defects: int
    at: float


@dataclass(frozen=True, slots=True)
class ModelView:
    """The model in use; `threshold` is a raw map value, as in ModelInfo, `by_hand`: set on the page or by a
    command.
    """

    name: str
    version: int
    threshold: float | None = None
    by_hand: bool = False

    @classmethod
    def of(cls, info: ModelInfo, *, by_hand: bool) -> "ModelView":
        """In the page's words."""
        return cls(info.name, info.version, info.threshold, by_hand)


@dataclass(frozen=True, slots=True)
class CameraView:
    """One camera now.

    `reason` is one sentence for a person without credentials ("" when live), `since` when this state began.
    `fps` is inspected frames per second and `latency_ms` the median capture → verdict, both over the last
    seconds; `frame_age_s` the age of the last *new* picture. None = not known yet. `not_inspected` says in
    words why it has no model.
    """

    name: str
    state: State
    reason: str
    since: float
    fps: float | None = None
    latency_ms: float | None = None
    frame_age_s: float | None = None
    verdict: VerdictView | None = None
    model: ModelView | None = None
    not_inspected: str = ""


@dataclass(frozen=True, slots=True)
class IncidentView:
    """One defect from its opening to its close.

    `box` is 0–1 of the frame; `image` and `heatmap` are relative URLs.
    """

    defect_id: str
    camera: str
    phase: Literal["open", "update", "close"]
    severity: Literal["minor", "major", "critical"]
    score_ratio: float
    opened_at: float
    updated_at: float
    closed_at: float | None = None
    box: tuple[float, float, float, float] | None = None
    image: str | None = None
    heatmap: str | None = None
    feedback: Literal["false_alarm", "confirmed"] | None = None


@dataclass(frozen=True, slots=True)
class Histogram:
    """`counts[i]` observations ≤ `bounds[i]` and above the bound before it; one more count for what is
    above all.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float


@dataclass(frozen=True, slots=True)
class LineStats:
    """Counters since start and depths now, keyed by what becomes a label. Leave out what is not measured.

    `frames`: (camera, result) → count, result ∈ received, inspected, displaced, late, refused, failed,
    skipped. `reconnects`: (camera, reason code) → count. `stage_seconds`: stage → seconds. `queue_depth`:
    stage → waiting items. `events`: phase → published. `stream_lag`: consumer group → entries behind.
    `drift`: camera → distance. `verdicts`: (camera, ok, ng or unknown) → parts. `inbox`: (stream that others
    write, result) → entries, result ∈ taken, repeated, dead, gone; `inbox_up`: 0.0 for one that can't be read
    now. `broker_retries`: attempts after an error; `broker_replayed`: acknowledged events that the broker
    lost and got again. `device_errors`: kind → count.
    `bridge_up`: 1.0 for a bridge that runs and has no trouble. `bridge_events`: (bridge, result) → events,
    result ∈ delivered, failed, dead, repeated, lost, late. `config_ok`: the last edit of the config file was
    carried out.
    """

    frames: Mapping[tuple[str, str], int] = field(default_factory=dict)
    reconnects: Mapping[tuple[str, str], int] = field(default_factory=dict)
    stage_seconds: Mapping[str, Histogram] = field(default_factory=dict)
    capture_to_event_seconds: Mapping[str, Histogram] = field(default_factory=dict)
    batch_size: Histogram | None = None
    queue_depth: Mapping[str, int] = field(default_factory=dict)
    events: Mapping[str, int] = field(default_factory=dict)
    outbox_pending: int | None = None
    outbox_oldest_s: float | None = None
    outbox_dropped: int | None = None
    stream_lag: Mapping[str, int] = field(default_factory=dict)
    broker_retries: int | None = None
    broker_replayed: int | None = None
    evidence_dropped: int | None = None
    device_errors: Mapping[str, int] = field(default_factory=dict)
    drift: Mapping[str, float] = field(default_factory=dict)
    verdicts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    inbox: Mapping[tuple[str, str], int] = field(default_factory=dict)
    inbox_up: Mapping[str, float] = field(default_factory=dict)
    bridge_up: Mapping[str, float] = field(default_factory=dict)
    bridge_pending: Mapping[str, float] = field(default_factory=dict)
    bridge_events: Mapping[tuple[str, str], int] = field(default_factory=dict)
    capture_to_bridge_seconds: Mapping[str, Histogram] = field(default_factory=dict)
    config_ok: bool = True


@dataclass(frozen=True, slots=True)
class ConfigView:
    """The settings in force, and what became of the last edit of their file.

    `sha256` is the checksum that events carry. `mistakes`, as `file:line: key: …`: the edit was refused, and
    nothing changed. Else `added`, `removed` and `changed` are the cameras that it touched, and
    `at_next_start` the keys that differ from what the line was started with.
    """

    file: str
    sha256: str
    mistakes: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    at_next_start: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def _ready() -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class LineView:
    """The line as the page sees it.

    `cameras()` in the order of the config file. `incidents(limit)` newest first, at most `limit`.
    `not_ready()` one sentence per reason that the line can't work yet, empty = ready. `started()` becomes
    True once and stays.
    """

    site: str
    line: str
    cameras: Callable[[], Sequence[CameraView]]
    stats: Callable[[], LineStats]
    incidents: Callable[[int], Sequence[IncidentView]]
    not_ready: Callable[[], Sequence[str]] = _ready
    started: Callable[[], bool] = lambda: True


@dataclass(frozen=True, slots=True)
class LineActions:
    """What a person may change from the page; None = not offered, the page hides it.

    `set_threshold(camera, raw map value, model)` takes effect between two batches and returns what is in
    force then. `model`, with its level, is what the value was chosen by: another one in force refuses it, for
    it has other raw values. None in place of the value goes back to the model's own, whichever that is: with
    None for the model. Actions raise errors.Refused when it can't be done.

    `model_of(camera)` is the model in force, also before it has inspected a picture; None: there is none.
    """

    set_threshold: Callable[[str, float | None, ModelInfo | None], Awaitable[ModelInfo]] | None = None
    model_of: Callable[[str], ModelInfo | None] = lambda camera: None
