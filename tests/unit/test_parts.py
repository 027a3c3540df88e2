"""Triggers as they come, the pictures that they let through, and verdicts in the record."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from config.services import PartsSettings, TriggersSettings
from config.settings import CameraSettings
from engine.core import Frame
from stream.condition import CameraState
from stream.endings import end
from stream.events import Event, rfc3339
from stream.inbox import Malformed
from stream.outbox import Outbox
from stream.parts import Parts, policy_of
from stream.recorder import Recorder
from tests.unit.test_triggers import DEFECT, inspection

ENTRY = "1764000000123-0"


def camera(**more: object) -> CameraSettings:
    return CameraSettings.model_validate({"source": {"type": "pattern"}, "frames": "every"} | more)


CAMERAS = {"top": camera(), "side": camera(frames="latest"), "off": camera(enabled=False)}


class Line:
    """Parts of three cameras: what was offered to the engine, shown, settled and recorded."""

    def __init__(self, outbox: Outbox) -> None:
        self.offered: list[Frame] = []
        self.shown: list[Frame] = []
        self.settled: list[str] = []
        self.models = {"top", "side", "off"}
        self.recorded: list[Event] = []
        recorder = Recorder(outbox, site="s", line="l", on_recorded=self.recorded.extend)
        self.parts = Parts(
            CAMERAS,
            PartsSettings(verdict_within_ms=200),
            TriggersSettings(),
            recorder=recorder,
            offer=self._offer,
            has_model=lambda name: name in self.models,
            show=self.shown.append,
            on_settled=self.settled.append,
        )
        self.seq = 0

    def _offer(self, frame: Frame) -> bool:
        self.offered.append(frame)
        return True

    async def trigger(self, entry: str, camera: str = "top", part_id: str = "p1") -> bool:
        return await self.parts.take(entry, {"camera": camera, "part_id": part_id, "at": str(time.time())})

    async def picture(self, name: str = "top") -> bool:
        self.seq += 1
        pixels = np.zeros((4, 4, 3), np.uint8)
        held = self.parts.holds(Frame(name, self.seq, time.time(), time.monotonic(), pixels))
        await asyncio.sleep(0)
        return held

    def said(self) -> list[tuple[str, str, str | None]]:
        return [(e.part_id, e.verdict, e.reason) for e in self.recorded if e.kind == "part"]


@pytest.fixture
def line_outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(tmp_path / "outbox.db")
    yield outbox
    outbox.close()


@contextlib.asynccontextmanager
async def ticking(line: Line) -> AsyncIterator[None]:
    task = asyncio.create_task(line.parts.run())
    yield
    await end([task])


async def test_every_picture_is_inspected_until_the_first_trigger_and_then_only_those(
    line_outbox: Outbox,
) -> None:
    line = Line(line_outbox)
    assert not await line.picture()
    await line.trigger("1-0")
    assert await line.picture() and await line.picture()
    assert [(f.seq, f.part_id) for f in line.offered] == [(2, "p1")]
    assert line.settled == []
    line.parts.inspected(inspection(line.offered[0], DEFECT))
    assert line.said() == [("p1", "ng", None)] and line.settled == ["1-0"]
    assert line.recorded[0].detail == {"trigger": "1-0"}
    assert line.parts.verdicts("top") == {"ng": 1}


async def test_the_result_stays_on_the_page_for_a_while(line_outbox: Outbox) -> None:
    line = Line(line_outbox)
    await line.picture(), await line.trigger("1-0"), await line.picture()
    assert [f.seq for f in line.shown] == [2]
    line.parts.inspected(inspection(line.offered[0]))
    await line.picture()
    assert [f.seq for f in line.shown] == [2]


async def test_a_camera_that_takes_no_triggers_says_so(line_outbox: Outbox) -> None:
    line = Line(line_outbox)
    await line.trigger("1-0", "side"), await line.trigger("2-0", "off")
    line.models.clear()
    await line.trigger("3-0", "top", "p3")
    assert [why for _, _, why in line.said()] == ["not triggered", "camera disabled", "no model"]
    assert not await line.picture("side")


async def test_what_nobody_answers_is_answered_in_time(line_outbox: Outbox) -> None:
    line = Line(line_outbox)
    async with ticking(line), asyncio.timeout(2):
        line.parts.camera_changed(CameraState("top", "live", "", 0.0))
        began = time.monotonic()
        await line.trigger("1-0")
        while not line.said():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert time.monotonic() - began < 0.2
    assert line.said() == [("p1", "unknown", "no frame")]


async def test_a_frame_that_the_engine_refuses_is_an_answer(line_outbox: Outbox) -> None:
    line = Line(line_outbox)
    await line.trigger("1-0"), await line.picture()
    line.parts.dropped(line.offered[0], "refused")
    await asyncio.sleep(0)
    assert line.said() == [("p1", "unknown", "overloaded")]


async def test_untriggered_pictures_that_the_engine_refuses_are_said_now_and_then(
    line_outbox: Outbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, picture = Line(line_outbox), Frame("top", 1, 0.0, 0.0, np.zeros((4, 4, 3), np.uint8))
    for _ in range(3):
        line.parts.dropped(picture, "refused")
    line.parts.dropped(picture, "late")
    line.parts.dropped(replace(picture, camera="gone"), "refused")
    (said,) = caplog.messages
    assert said.startswith("camera top: pictures find no place") and "(1 since" in said
    monkeypatch.setattr("stream.parts._REFUSED_SAID_EVERY_S", 0.0)
    line.parts.dropped(picture, "refused")
    assert "(3 since" in caplog.messages[1]
    assert line.said() == []


async def test_a_disabled_camera_is_shown_and_not_inspected(line_outbox: Outbox) -> None:
    line = Line(line_outbox)
    await line.trigger("1-0")
    line.parts.enable("top", False)
    assert await line.picture() and len(line.shown) == 1
    await line.trigger("2-0", part_id="p2")
    line.parts.enable("top", True)
    await line.trigger("3-0", part_id="p3"), await line.picture()
    assert [f.part_id for f in line.offered] == ["p3"]
    assert [why for _, _, why in line.said()] == ["camera disabled", "camera disabled"]


async def test_what_an_earlier_run_answered_is_settled_without_a_word(line_outbox: Outbox) -> None:
    before = Line(line_outbox)
    await before.trigger("1-0"), await before.picture()
    before.parts.inspected(inspection(before.offered[0]))
    line = Line(line_outbox)
    line.parts.recall(line_outbox.newest("verdicts", 10))
    assert await line.trigger("1-0")
    assert await line.trigger("2-0")  # the same part again
    await line.trigger("3-0", part_id="p3")
    await line.trigger("1-0", part_id="p4")  # a broker that came back empty counts from the beginning
    line.parts.end()
    assert line.said() == [("p3", "unknown", "stopped"), ("p4", "unknown", "stopped")]


async def test_a_trigger_that_is_sent_again_under_its_id_is_answered_once_also_over_a_restart(
    line_outbox: Outbox,
) -> None:
    fields = {"camera": "top", "part_id": "p1", "id": "c1"}
    before = Line(line_outbox)
    await before.parts.take(ENTRY, fields)
    before.parts.end()
    (verdict,) = line_outbox.newest("verdicts", 10)
    assert verdict.detail == {"trigger": ENTRY, "id": "c1"}
    long_ago = verdict.model_copy(update={"detected_at": rfc3339(time.time() - 3600.0)})
    line = Line(line_outbox)
    line.parts.recall([long_ago])
    assert await line.parts.take("1764000090000-0", fields)
    assert line.parts.repeated == 1
    assert not await line.parts.take("1764000090001-0", fields | {"id": "c2"})


async def test_a_carrier_that_comes_round_after_a_restart_is_answered_though_another_one_was_lately(
    line_outbox: Outbox,
) -> None:
    before = Line(line_outbox)
    for number in range(2):
        await before.trigger(f"{number}-0", part_id=f"carrier-{number}")
    before.parts.end()
    newest, older = line_outbox.newest("verdicts", 10)
    long_ago = rfc3339(time.time() - 25.0)
    line = Line(line_outbox)
    line.parts.recall([newest, older.model_copy(update={"detected_at": long_ago})])
    await line.trigger("7-0", part_id="carrier-0"), await line.trigger("8-0", part_id="carrier-1")
    line.parts.end()
    assert line.said() == [("carrier-0", "unknown", "stopped")]


async def test_a_camera_that_was_triggered_lately_does_not_run_free_after_a_restart(
    line_outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Line(line_outbox)
    assert not await before.picture()
    await before.trigger("1-0"), await before.picture()
    before.parts.inspected(inspection(before.offered[0]))
    line = Line(line_outbox)
    line.parts.recall(line_outbox.newest("verdicts", 10))
    assert await line.picture() and line.offered == []
    monkeypatch.setattr("stream.parts._STAYS_TRIGGERED_S", -1.0)
    long_after = Line(line_outbox)
    long_after.parts.recall(line_outbox.newest("verdicts", 10))
    assert not await long_after.picture()


async def test_a_camera_nobody_knows_is_malformed(line_outbox: Outbox) -> None:
    with pytest.raises(Malformed, match="there is no camera 'left' on this line"):
        await Line(line_outbox).trigger("1-0", "left")


def test_the_answer_is_due_before_the_limit() -> None:
    assert policy_of(PartsSettings(), TriggersSettings()).answer_within_s == 0.95
    assert policy_of(
        PartsSettings(verdict_within_ms=100), TriggersSettings()
    ).answer_within_s == pytest.approx(0.09)


async def test_a_camera_that_is_removed_answers_what_waits_and_what_comes_after_is_no_trigger(
    line_outbox: Outbox,
) -> None:
    line = Line(line_outbox)
    await line.trigger("1-0")
    line.parts.forget("top")
    assert line.said() == [("p1", "unknown", "camera removed")] and line.settled == ["1-0"]
    late = Frame("top", 1, 0.0, 0.0, np.zeros((4, 4, 3), np.uint8), part_id="p1")
    line.parts.dropped(late, "removed")
    await asyncio.sleep(0)
    with pytest.raises(Malformed):
        await line.trigger("2-0")


async def test_a_camera_that_is_triggered_no_more_inspects_every_picture_again(line_outbox: Outbox) -> None:
    line = Line(line_outbox)
    await line.trigger("1-0")
    line.parts.watch("top", camera(frames="latest"))
    assert line.said() == [("p1", "unknown", "not triggered")]
    assert not await line.picture()
    line.parts.watch("top", camera())
    await line.trigger("2-0", part_id="p2")
    assert await line.picture()


async def test_a_camera_that_a_command_disabled_stays_so_when_it_is_retuned(line_outbox: Outbox) -> None:
    line = Line(line_outbox)
    line.parts.enable("top", False)
    line.parts.watch("top", camera(fps=3))
    assert not line.parts.is_enabled("top")
    line.parts.watch("top", camera(enabled=False))
    line.parts.watch("top", camera())
    assert line.parts.is_enabled("top")


async def test_other_limits_hold_for_the_triggers_that_come(line_outbox: Outbox) -> None:
    line = Line(line_outbox)
    line.parts.retune(PartsSettings(), TriggersSettings(max_waiting=1))
    await line.trigger("1-0"), await line.trigger("2-0", part_id="p2")
    assert line.said() == [("p2", "unknown", "overloaded")]


def encoded(level: int, kind: str = ".png", size: tuple[int, int] = (18, 24)) -> str:
    """A grey picture as it comes in a stream entry: bytes that are carried as text."""
    _, data = cv2.imencode(kind, np.full((*size, 3), level, np.uint8))
    return bytes(data).decode(errors="surrogateescape")


async def test_a_picture_that_comes_with_its_trigger_decides(
    line_outbox: Outbox,
) -> None:
    line = Line(line_outbox)
    line.parts.camera_changed(CameraState("top", "down", "gone", 0.0))
    for entry, part, kind in (("1-0", "p1", ".png"), ("2-0", "p2", ".jpg")):
        await line.parts.take(entry, {"camera": "top", "part_id": part, "picture": encoded(90, kind)})
    first, second = line.offered
    assert (first.part_id, second.part_id, first.pixels.shape) == ("p1", "p2", (18, 24, 3))
    assert int(first.pixels[0, 0, 0]) == 90 and first.seq != second.seq
    await line.picture()
    line.parts.inspected(inspection(second, DEFECT)), line.parts.inspected(inspection(first))
    assert line.said() == [("p2", "ng", None), ("p1", "ok", None)]


@pytest.mark.parametrize(
    "picture",
    ["no picture", encoded(90)[:20], encoded(90, size=(1, 1))],
    ids=["none", "torn", "placeholder"],
)
async def test_a_picture_that_can_t_be_judged_is_malformed(line_outbox: Outbox, picture: str) -> None:
    line = Line(line_outbox)
    with pytest.raises(Malformed, match="PNG or JPEG"):
        await line.parts.take("1-0", {"camera": "top", "part_id": "p1", "picture": picture})
    assert line.said() == [] and line.offered == []


async def test_a_picture_that_is_decoded_slowly_gets_no_further_time(
    line_outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(encoded: bytes) -> np.ndarray:
        time.sleep(0.2)
        return np.zeros((18, 24, 3), np.uint8)

    monkeypatch.setattr("stream.parts.decode", decode)
    line = Line(line_outbox)
    await line.parts.take("1-0", {"camera": "top", "part_id": "a", "at": str(time.time()), "picture": "x"})
    async with ticking(line):
        await asyncio.sleep(0)
        assert line.said() == [("a", "unknown", "late")]


async def test_a_picture_without_a_model_is_shown_and_answered_unknown(line_outbox: Outbox) -> None:
    line = Line(line_outbox)
    line.models.clear()
    await line.parts.take("1-0", {"camera": "top", "part_id": "p1", "picture": encoded(90)})
    assert line.said() == [("p1", "unknown", "no model")] and len(line.shown) == 1
