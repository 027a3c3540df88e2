"""The line in Prometheus' words: names and labels of the contract, made from plain snapshots at each
scrape.

Labels come from the config (cameras, models) or from short fixed lists (results, reasons, stages); a list
that grows beyond `_MAX_VALUES` is folded into `other`, so that the number of series stays bounded whatever
happens.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import get_args

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from .web.view import CameraView, Histogram, LineStats, LineView, Result

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MAX_VALUES = 24
# Exported with 0 before they happen, as every verdict and phase is: `increase` over a series that is born
# above 0 is 0, and the first error would wake nobody. The engine's own words, and its error classes.
_DEVICE_ERRORS = (
    *("ended", "failover", "taken_out"),
    *("ArtifactError", "CalibrationError", "DeviceError", "EngineError", "GraphError", "OutOfMemory"),
    *("TeacherError", "VersionError"),
)
_PHASES = ("open", "update", "close")
_VERDICTS: tuple[Result, ...] = get_args(Result)


@dataclass(frozen=True, slots=True)
class PageStats:
    """The page's own numbers since start, and its viewers now.

    `removed`: pictures or versions → how many went to make room.
    """

    viewers: int
    drawn: int
    overtaken: int
    dropped: int
    removed: Mapping[str, int] = field(default_factory=dict)


def registry(view: LineView, page: Callable[[], PageStats]) -> CollectorRegistry:
    """Scrape it with `exposition`; the callables run at each scrape, on the caller's thread."""
    made = CollectorRegistry(auto_describe=False)
    made.register(_Line(view, page))
    ProcessCollector(registry=made)
    return made


def exposition(made: CollectorRegistry) -> bytes:
    """The text that `/metrics` answers, as CONTENT_TYPE.

    The same as prometheus_client.generate_latest, which checks each name of each sample anew: that holds the
    event loop for 15 ms with 64 cameras, this for 9.
    """
    return "".join(row for family in made.collect() for row in _rows(family)).encode()


def _rows(family: Metric) -> Iterator[str]:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    yield f"# HELP {name} {family.documentation}\n# TYPE {name} {family.type}\n"
    for sample in family.samples:
        pairs = sorted(sample.labels.items()) if sample.labels else ()
        labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in pairs)
        yield f"{sample.name}{f'{{{labels}}}' if labels else ''} {_number(sample.value)}\n"


def _number(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class _Line(Collector):
    def __init__(self, view: LineView, page: Callable[[], PageStats]) -> None:
        self._view = view
        self._page = page
        self._version = version("linewatch")

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        stats = self._view.stats()
        cameras = list(self._view.cameras())
        yield from _cameras(cameras)
        yield from _frames(stats)
        yield from _histograms(stats)
        yield from _events(stats)
        yield _verdicts(cameras, stats)
        yield _counter(
            "linewatch_inbox", "Triggers and commands by result", ("stream", "result"), stats.inbox
        )
        yield _gauge("linewatch_inbox_up", "1 when it can be read", "stream", stats.inbox_up)
        yield from _bridges(stats)
        yield from _page(self._page())
        yield GaugeMetricFamily(
            "linewatch_config_last_reload_successful",
            "0 while the config file holds mistakes and the settings before them are in force",
            float(stats.config_ok),
        )
        yield GaugeMetricFamily(
            "linewatch_ready", "1 when the line can work", float(not self._view.not_ready())
        )
        info = GaugeMetricFamily("linewatch_build_info", "The program's version", labels=["version"])
        info.add_metric([self._version], 1.0)
        yield info


def _cameras(cameras: list[CameraView]) -> Iterator[Metric]:
    up = GaugeMetricFamily("linewatch_camera_up", "1 when pictures come", labels=["camera"])
    age = GaugeMetricFamily("linewatch_frame_age_seconds", "Age of the last new picture", labels=["camera"])
    model = GaugeMetricFamily("linewatch_model_info", "The model in use", labels=["camera", "version"])
    for camera in cameras:
        up.add_metric([camera.name], float(camera.state == "live"))
        if camera.frame_age_s is not None:
            age.add_metric([camera.name], camera.frame_age_s)
        if camera.model is not None:
            model.add_metric([camera.name, str(camera.model.version)], 1.0)
    yield from (up, age, model)


def _frames(stats: LineStats) -> Iterator[Metric]:
    yield _counter("linewatch_frames", "Frames by what became of them", ("camera", "result"), stats.frames)
    yield _counter(
        "linewatch_reconnects", "Lost connections by reason", ("camera", "reason"), stats.reconnects
    )
    depth = GaugeMetricFamily("linewatch_queue_depth", "Waiting items", labels=["stage"])
    for stage, waiting in stats.queue_depth.items():
        depth.add_metric([stage], waiting)
    yield depth


def _histograms(stats: LineStats) -> Iterator[Metric]:
    yield _histogram("linewatch_stage_seconds", "Time of one batch in a stage", "stage", stats.stage_seconds)
    name, text = "linewatch_capture_to_event_seconds", "From the picture to the published event"
    yield _histogram(name, text, "camera", stats.capture_to_event_seconds)
    if stats.batch_size is not None:
        size = HistogramMetricFamily("linewatch_batch_size", "Frames that went through the device together")
        size.add_metric([], _cumulative(stats.batch_size), stats.batch_size.total)
        yield size


def _events(stats: LineStats) -> Iterator[Metric]:
    events = CounterMetricFamily("linewatch_events", "Events put into the outbox", labels=["phase"])
    for phase, count in (dict.fromkeys(_PHASES, 0) | dict(stats.events)).items():
        events.add_metric([phase], count)
    yield events
    gauges = (
        ("linewatch_outbox_pending", "Events the broker has not acknowledged", stats.outbox_pending),
        ("linewatch_outbox_oldest_seconds", "Age of the oldest such event", stats.outbox_oldest_s),
    )
    for name, text, value in gauges:
        if value is not None:
            yield GaugeMetricFamily(name, text, value)
    counters = (
        ("linewatch_outbox_dropped", "Events a full outbox let go", stats.outbox_dropped),
        ("linewatch_broker_retries", "Attempts to reach the broker after an error", stats.broker_retries),
        ("linewatch_broker_replayed", "Events that the broker lost and got again", stats.broker_replayed),
        ("linewatch_evidence_dropped", "Pictures of defects that were not kept", stats.evidence_dropped),
    )
    for name, text, total in counters:
        if total is not None:
            yield CounterMetricFamily(name, text, total)
    errors = CounterMetricFamily("linewatch_device_errors", "Errors of the device by kind", labels=["kind"])
    for kind, count in (dict.fromkeys(_DEVICE_ERRORS, 0) | dict(stats.device_errors)).items():
        errors.add_metric([kind], count)
    yield errors
    yield _gauge(
        "linewatch_stream_lag", "Entries a group has not acknowledged", "group", _furthest(stats.stream_lag)
    )
    yield _gauge(
        "linewatch_drift",
        "Shift of the scores since calibration; 1 = one alarm distance",
        "camera",
        stats.drift,
    )


def _verdicts(cameras: list[CameraView], stats: LineStats) -> Metric:
    """Of every camera, because its first trigger may be the first that is answered with unknown."""
    none_yet = {(camera.name, verdict): 0 for camera in cameras for verdict in _VERDICTS}
    counts = none_yet | dict(stats.verdicts)
    return _counter("linewatch_verdicts", "Answers to triggers", ("camera", "verdict"), counts)


def _bridges(stats: LineStats) -> Iterator[Metric]:
    yield _gauge("linewatch_bridge_up", "1 when it runs and its peer takes events", "bridge", stats.bridge_up)
    yield _gauge("linewatch_bridge_pending", "Events that are not out yet", "bridge", stats.bridge_pending)
    yield _counter("linewatch_bridge_events", "Events by result", ("bridge", "result"), stats.bridge_events)
    name, text = "linewatch_capture_to_bridge_seconds", "From the picture to the bridge's output"
    yield _histogram(name, text, "bridge", stats.capture_to_bridge_seconds)


def _page(page: PageStats) -> Iterator[Metric]:
    yield GaugeMetricFamily("linewatch_viewers", "Open streams of the page", page.viewers)
    pictures = CounterMetricFamily("linewatch_page_pictures", "Pictures for viewers", labels=["result"])
    for result in ("drawn", "overtaken", "dropped"):
        pictures.add_metric([result], getattr(page, result))
    yield pictures
    removed = CounterMetricFamily("linewatch_removed", "What was removed to make room", labels=["what"])
    for what, count in page.removed.items():
        removed.add_metric([what], count)
    yield removed


def _counter(name: str, text: str, labels: tuple[str, str], counts: Mapping[tuple[str, str], int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, count in _folded(counts).items():
        family.add_metric(key, count)
    return family


def _gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _histogram(name: str, text: str, label: str, values: Mapping[str, Histogram]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=[label])
    for key, histogram in values.items():
        family.add_metric([key], _cumulative(histogram), histogram.total)
    return family


def _furthest(lags: Mapping[str, int]) -> dict[str, int]:
    """The groups that are furthest behind, `_MAX_VALUES` at most: anybody may make groups."""
    return dict(sorted(lags.items(), key=lambda item: -item[1])[:_MAX_VALUES])


def _folded(counts: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """The same counts with at most `_MAX_VALUES` different second labels; the rest is summed as `other`."""
    known = sorted({second for _, second in counts})[:_MAX_VALUES]
    out: dict[tuple[str, str], int] = {}
    for (camera, second), count in counts.items():
        key = (camera, second if second in known else "other")
        out[key] = out.get(key, 0) + count
    return out


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    """Prometheus' buckets: (upper bound, observations up to it), ending in +Inf."""
    out, below = [], 0
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        below += count
        out.append(("+Inf" if bound == float("inf") else repr(float(bound)), float(below)))
    return out
