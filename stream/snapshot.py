"""The line now, as plain numbers: for the metrics and the page, and for the PLC's status keys."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.engine import Engine
from engine.meter import SECONDS_BOUNDS
from engine.meter import Histogram as Measured

from .bridges.report import group_of
from .camera import Camera
from .delivery import Delivery
from .error_codes import BLIND, BY_STATE, DEAF, DISABLED, DISK, NO_MODEL, STUCK
from .gateway import Gateway
from .overview import Overview
from .status import Fields
from .web.view import CameraView, Histogram, LineStats, Result


@dataclass(frozen=True, slots=True)
class LineFault:
    """What keeps a camera that is live from being answered for.

    `disabled` by a command; `disk`: what is decided can't be stored; `stuck`: the device doesn't answer;
    `blind`: pictures come and none has been inspected lately; `deaf`: it takes triggers, which can't be read.
    """

    disabled: bool = False
    disk: bool = False
    stuck: bool = False
    blind: bool = False
    deaf: bool = False

    @property
    def code(self) -> int:
        """The gravest as an error code; 0: none."""
        codes = (
            (self.disabled, DISABLED),
            (self.disk, DISK),
            (self.stuck, STUCK),
            (self.blind, BLIND),
            (self.deaf, DEAF),
        )
        return next((code for holds, code in codes if holds), 0)


def not_ready(
    *,
    started: bool,
    broker_error: str | None,
    disk_error: str | None,
    stuck_after_s: float | None,
    triggers_error: str | None = None,
) -> list[str]:
    """Why the line can't be relied on, one sentence each; `stuck_after_s` None: the device is well."""
    why = []
    if not started:
        why.append("Models are being loaded and warmed up.")
    if broker_error is not None:
        why.append(f"Events wait in the outbox: {broker_error}.")
    if disk_error is not None:
        why.append(f"Events wait in memory: {disk_error}.")
    if stuck_after_s is not None:
        why.append(f"The device has not answered for {stuck_after_s:g} s.")
    if triggers_error is not None and broker_error is None:  # else it is the same trouble
        why.append(f"Triggers can't be read: {triggers_error}.")
    return why


def line_stats(
    engine: Engine | None,
    cameras: Mapping[str, Camera],
    overview: Overview,
    delivery: Delivery,
    gateway: Gateway,
    held: int,
) -> LineStats:
    """Counters since start and depths now; `held` events wait in memory for the disk."""
    oldest_s, dropped = delivery.backlog(time.time())
    snapshot = engine.meter.snapshot() if engine else None
    # A batch in hand may hold the last picture of a camera that was removed.
    counted = snapshot.frames.items() if snapshot else ()
    frames = {key: count for key, count in counted if key[0] in cameras}
    reconnects: dict[tuple[str, str], int] = {}
    for name, camera in cameras.items():
        stats = camera.stats()
        frames[name, "received"] = stats.received
        frames[name, "decimated"] = stats.decimated
        frames[name, "skipped"] = sum(stats.skipped.values())
        reconnects |= {(name, why): count for why, count in stats.reconnects.items()}
    return LineStats(
        frames=frames,
        reconnects=reconnects,
        stage_seconds={k: _histogram(v) for k, v in snapshot.stages.items()} if snapshot else {},
        capture_to_event_seconds=overview.capture_to_event(),
        batch_size=_histogram(snapshot.batch_sizes) if snapshot else None,
        queue_depth={
            "engine": engine.waiting if engine else 0,
            "parts": sum(gateway.parts.waiting(name) for name in cameras),
        },
        events=dict(overview.phases),
        outbox_pending=delivery.outbox.pending + held,
        outbox_oldest_s=oldest_s,
        outbox_dropped=dropped,
        stream_lag=dict(delivery.lags),
        broker_retries=delivery.state.retries,
        broker_replayed=delivery.state.replayed,
        device_errors=dict(snapshot.errors) if snapshot else {},
        verdicts=gateway.verdicts(),
        inbox=gateway.read(),
        inbox_up=gateway.can_read(),
        **_bridges(delivery),
    )


def _bridges(delivery: Delivery) -> dict[str, Any]:
    reports = {name: report for name, report in delivery.bridges.items() if report is not None}
    results = ("delivered", "failed", "dead", "repeated", "lost", "late")
    return {
        "bridge_up": {
            name: float(report is not None and report.trouble is None)
            for name, report in delivery.bridges.items()
        },
        "bridge_pending": {name: delivery.lags.get(group_of(name), 0) for name in delivery.bridges},
        "bridge_events": {(name, of): getattr(r, of) for name, r in reports.items() for of in results},
        "capture_to_bridge_seconds": {
            name: Histogram(SECONDS_BOUNDS, tuple(report.to_output), report.to_output_s)
            for name, report in reports.items()
        },
    }


def plc_status(
    camera: CameraView, counts: Mapping[Result, int], fault: LineFault, *, busy: bool, config_checksum: str
) -> Fields:
    """The status hash of one camera, in the words that smart cameras use; `counts` by verdict."""
    error = DISABLED if fault.disabled else BY_STATE[camera.state]
    error = error or (NO_MODEL if camera.model is None else fault.code)
    return {
        "ready": int(error == 0),
        "busy": int(busy),
        "result_no": sum(counts.values()),
        "ok_count": counts.get("ok", 0),
        "ng_count": counts.get("ng", 0),
        "error_code": error,
        "processing_ms": camera.latency_ms or 0.0,
        "config_checksum": config_checksum,
        "model_version": f"{camera.model.name}@{camera.model.version}" if camera.model else "",
    }


def _histogram(measured: Measured) -> Histogram:
    return Histogram(measured.bounds, measured.counts, measured.total)
