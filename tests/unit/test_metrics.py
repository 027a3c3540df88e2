"""The metrics' names are a contract; their number is bounded."""

import math
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stream import metrics
from stream.metrics import PageStats
from stream.web.view import Histogram, LineStats
from tests.webline import FakeLine

ENGINE = Path(__file__).parents[2] / "engine"
HISTOGRAM = Histogram((0.1, 0.5), (3, 2, 1), 1.9)
NAMES = {
    "linewatch_frames",
    "linewatch_frame_age_seconds",
    "linewatch_camera_up",
    "linewatch_reconnects",
    "linewatch_stage_seconds",
    "linewatch_capture_to_event_seconds",
    "linewatch_batch_size",
    "linewatch_queue_depth",
    "linewatch_outbox_pending",
    "linewatch_outbox_oldest_seconds",
    "linewatch_stream_lag",
    "linewatch_model_info",
    "linewatch_drift",
}


def full_line(cameras: int) -> FakeLine:
    """Every number that a line of so many cameras can have."""
    names = [f"cam{i}" for i in range(cameras)]
    line = FakeLine.of(*names)
    results = ("received", "inspected", "displaced", "late", "refused", "failed")
    line.stats = LineStats(
        frames={(name, result): 7 for name in names for result in results},
        reconnects={(name, f"reason{i}"): 1 for name in names for i in range(60)},
        stage_seconds={
            stage: HISTOGRAM for stage in ("queue", "upload", "teacher", "student", "maps", "regions")
        },
        capture_to_event_seconds={name: HISTOGRAM for name in names},
        batch_size=HISTOGRAM,
        queue_depth={"engine": 2},
        events={"open": 1, "update": 2, "close": 1},
        outbox_pending=3,
        outbox_oldest_s=0.5,
        outbox_dropped=0,
        stream_lag={"mes": 4},
        drift={name: 0.1 for name in names},
    )
    return line


def scrape(line: FakeLine) -> dict[str, dict[tuple[str, ...], float]]:
    text = metrics.exposition(metrics.registry(line.view(), lambda: PageStats(1, 2, 3, 4))).decode()
    return {
        family.name: {(s.name, *s.labels.values()): s.value for s in family.samples}
        for family in text_string_to_metric_families(text)
    }


def test_the_names_of_the_contract_are_all_there() -> None:
    assert scrape(full_line(2)).keys() >= NAMES


def test_counters_and_labels_say_what_the_snapshot_said() -> None:
    families = scrape(full_line(1))
    assert families["linewatch_frames"][("linewatch_frames_total", "cam0", "displaced")] == 7
    assert families["linewatch_model_info"][("linewatch_model_info", "cam0", "3")] == 1
    assert families["linewatch_camera_up"][("linewatch_camera_up", "cam0")] == 1


def test_histograms_are_cumulative_and_end_in_infinity() -> None:
    stage = scrape(full_line(1))["linewatch_stage_seconds"]
    name = "linewatch_stage_seconds"
    assert [stage[(f"{name}_bucket", le, "queue")] for le in ("0.1", "0.5", "+Inf")] == [3, 5, 6]
    assert stage[(f"{name}_count", "queue")] == 6
    assert math.isclose(stage[(f"{name}_sum", "queue")], 1.9)


def test_a_camera_that_is_not_live_is_not_up() -> None:
    line = full_line(1)
    line.set("cam0", state="frozen")
    assert scrape(line)["linewatch_camera_up"][("linewatch_camera_up", "cam0")] == 0


def test_what_is_not_measured_is_left_out_rather_than_zero() -> None:
    families = scrape(FakeLine.of("top"))
    assert "linewatch_outbox_pending" not in families
    assert not families["linewatch_drift"]


def kinds_of_device_errors() -> set[str]:
    """Every word that the engine counts an error under: its own, and its error classes."""
    text = "".join(file.read_text() for file in ENGINE.rglob("*.py"))
    words, found = set(re.findall(r'meter\.error\("(\w+)"\)', text)), {"EngineError"}
    classes = re.findall(r"^class (\w+)\((\w+)\):", text, re.MULTILINE)
    while more := {name for name, base in classes if base in found} - found:
        found |= more
    return words | found


def test_every_kind_of_device_error_is_0_before_the_first() -> None:
    counted = scrape(FakeLine.of("top"))["linewatch_device_errors"]
    assert counted == {("linewatch_device_errors_total", kind): 0 for kind in kinds_of_device_errors()}
    assert len(counted) >= 10


def test_a_device_error_is_counted_once_and_the_others_stay() -> None:
    line = FakeLine.of("top")
    line.stats = LineStats(device_errors={"DeviceError": 2, "failover": 1})
    counted = scrape(line)["linewatch_device_errors"]
    assert {kind[1]: count for kind, count in counted.items() if count} == {"DeviceError": 2, "failover": 1}


@pytest.mark.parametrize("verdicts", [{}, {("top", "unknown"): 3}])
def test_every_verdict_of_a_camera_is_0_before_its_first_part(verdicts: dict[tuple[str, str], int]) -> None:
    line = FakeLine.of("top")
    line.stats = LineStats(verdicts=verdicts)
    counted = scrape(line)["linewatch_verdicts"]
    zeros = {("top", verdict): 0 for verdict in ("ok", "ng", "unknown")}
    assert counted == {("linewatch_verdicts_total", *key): count for key, count in (zeros | verdicts).items()}


def test_reasons_without_end_are_folded_and_none_is_lost() -> None:
    reconnects = scrape(full_line(1))["linewatch_reconnects"]
    assert len(reconnects) == 25
    assert reconnects[("linewatch_reconnects_total", "cam0", "other")] == 36


def test_the_series_of_64_cameras_stay_below_5000() -> None:
    assert sum(len(samples) for samples in scrape(full_line(64)).values()) < 5000


def test_the_first_defect_of_a_run_is_a_rise() -> None:
    """`increase` sees nothing in a series that begins at 1."""
    events = scrape(FakeLine.of("top"))["linewatch_events"]
    assert events == {("linewatch_events_total", phase): 0 for phase in ("open", "update", "close")}
