"""A line for the page's tests: plain state that a test sets, and pictures whose defect it knows."""

import time
from dataclasses import dataclass, field, replace

import numpy as np

from engine.core import Box, Defect, Frame, Inspection, ModelInfo
from engine.meter import SECONDS_BOUNDS
from stream.web.view import CameraView, Histogram, IncidentView, LineStats, LineView, ModelView, VerdictView

MODEL = ModelInfo("top", 3, "ab" * 32, 2.0, 0.1)


def inspection(
    camera: str = "top",
    seq: int = 1,
    *,
    box: Box | None = None,
    level: float = 1.6,
    size: tuple[int, int] = (320, 240),
) -> Inspection:
    """A grey part; with `box`, a defect there whose map stands at `level`."""
    width, height = size
    pixels = np.full((height, width, 3), 120, np.uint8)
    pixels[height // 4 : -height // 4, width // 4 : -width // 4] = 170
    frame = Frame(camera, seq, time.time(), time.monotonic(), pixels)
    small = np.full((height // 4, width // 4), 0.2, np.float32)
    defects: tuple[Defect, ...] = ()
    if box is not None:
        x0, y0, x1, y1 = box
        small[y0 // 4 : y1 // 4, x0 // 4 : x1 // 4] = level
        middle = ((x0 + x1) / 2, (y0 + y1) / 2)
        defects = (Defect(box, (x1 - x0) * (y1 - y0), level, level, middle),)
    return Inspection(frame, 1.0, level if box else 0.2, defects, small, MODEL)


@dataclass
class FakeLine:
    """Set what the page should see, then ask the page."""

    cameras: list[CameraView] = field(default_factory=list)
    incidents: list[IncidentView] = field(default_factory=list)
    stats: LineStats = field(default_factory=LineStats)
    reasons: list[str] = field(default_factory=list)
    started: bool = True

    @classmethod
    def of(cls, *names: str) -> "FakeLine":
        """All live, all good."""
        now = time.time()
        verdict = VerdictView("ok", 0.2, 0, now)
        model = ModelView("top", 3, 2.0)
        return cls([CameraView(n, "live", "", now - 60, 5.0, 42.0, 0.1, verdict, model) for n in names])

    def set(self, name: str, **changes: object) -> None:
        """Change fields of one camera."""
        self.cameras = [replace(c, **changes) if c.name == name else c for c in self.cameras]  # type: ignore[arg-type]

    def view(self) -> LineView:
        """What the page is given."""
        return LineView(
            site="plant-a",
            line="line-1",
            cameras=lambda: list(self.cameras),
            stats=lambda: self.stats,
            incidents=lambda limit: self.incidents[:limit],
            not_ready=lambda: tuple(self.reasons),
            started=lambda: self.started,
        )


def incident(number: int, camera: str = "top", **changes: object) -> IncidentView:
    """An open incident."""
    now = time.time()
    made = IncidentView(f"id-{number}", camera, "open", "major", 1.4, now, now, box=(0.1, 0.1, 0.2, 0.2))
    return replace(made, **changes)  # type: ignore[arg-type]


def everything() -> FakeLine:
    """A line that has something to say for every metric there is."""
    one = Histogram(SECONDS_BOUNDS, (1,) * (len(SECONDS_BOUNDS) + 1), 1.0)
    line = FakeLine.of("top")
    line.stats = LineStats(
        frames={("top", "received"): 1},
        reconnects={("top", "ended"): 1},
        stage_seconds={"teacher": one},
        capture_to_event_seconds={"top": one},
        batch_size=one,
        queue_depth={"engine": 0},
        events={"open": 1},
        outbox_pending=0,
        outbox_oldest_s=0.0,
        outbox_dropped=0,
        stream_lag={"mes": 0},
        broker_retries=0,
        broker_replayed=0,
        evidence_dropped=0,
        device_errors={"device": 1},
        drift={"top": 0.0},
        verdicts={("top", "ok"): 1},
        inbox={("triggers", "taken"): 1},
        inbox_up={"triggers": 1.0, "commands": 1.0},
        bridge_up={"mes": 1.0},
        bridge_pending={"mes": 0.0},
        bridge_events={("mes", "delivered"): 1},
        capture_to_bridge_seconds={"mes": one},
    )
    return line
