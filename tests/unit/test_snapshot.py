from unittest.mock import Mock

import pytest

from stream.error_codes import BLIND, DEAF, DISABLED, DISK, NO_MODEL, STUCK, WORDS
from stream.gateway import Gateway
from stream.metrics import PageStats, exposition, registry
from stream.snapshot import LineFault, not_ready, plc_status
from stream.web.view import CameraView, LineStats, ModelView, State
from tests.webline import FakeLine

MODEL = ModelView("top", 3)


def camera(state: State = "live", model: ModelView | None = MODEL) -> CameraView:
    return CameraView("top", state, "", 0.0, latency_ms=41.5, model=model)


def status(view: CameraView, fault: LineFault | None = None) -> dict[str, object]:
    counts = {"ok": 7, "ng": 2, "unknown": 1}
    return dict(plc_status(view, counts, fault or LineFault(), busy=False, config_checksum="abc"))


def test_a_camera_that_is_well_is_ready_and_counts_its_results() -> None:
    assert status(camera()) == {
        "ready": 1,
        "busy": 0,
        "result_no": 10,
        "ok_count": 7,
        "ng_count": 2,
        "error_code": 0,
        "processing_ms": 41.5,
        "config_checksum": "abc",
        "model_version": "top@3",
    }


@pytest.mark.parametrize(
    ("view", "fault", "code"),
    [
        (camera("down"), LineFault(), 2),
        (camera("frozen"), LineFault(blind=True), 3),
        (camera(model=None), LineFault(), NO_MODEL),
        (camera("down"), LineFault(disabled=True), DISABLED),
        (camera(), LineFault(disk=True, blind=True), DISK),
        (camera(), LineFault(stuck=True, blind=True), STUCK),
        (camera(), LineFault(blind=True), BLIND),
        (camera(), LineFault(deaf=True), DEAF),
    ],
)
def test_whoever_cannot_answer_is_not_ready_and_says_why(
    view: CameraView, fault: LineFault, code: int
) -> None:
    told = status(view, fault)
    assert (told["ready"], told["error_code"]) == (0, code)
    assert code in WORDS


def test_a_line_that_cannot_keep_its_events_is_not_ready() -> None:
    assert not_ready(started=True, broker_error=None, disk_error=None, stuck_after_s=None) == []
    why = not_ready(started=False, broker_error="b", disk_error="d", stuck_after_s=30.0)
    assert len(why) == 4
    (deaf,) = not_ready(
        started=True, broker_error=None, disk_error=None, stuck_after_s=None, triggers_error="no key"
    )
    assert deaf == "Triggers can't be read: no key."


def test_commands_that_can_not_be_read_are_a_metric_and_leave_the_line_ready() -> None:
    """Only the log said it."""
    gateway = Mock(_inboxes=[Mock(trouble=None), Mock(trouble="the broker's ACL forbids it")])
    assert Gateway.can_read(gateway) == {"triggers": 1.0, "commands": 0.0}
    line = FakeLine.of("top")
    line.stats = LineStats(inbox_up=Gateway.can_read(gateway))
    text = exposition(registry(line.view(), lambda: PageStats(0, 0, 0, 0))).decode()
    assert 'linewatch_inbox_up{stream="commands"} 0.0\n' in text and "linewatch_ready 1.0\n" in text
