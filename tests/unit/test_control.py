"""A command is carried out or refused, and either is said."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.core import ModelInfo
from stream.control import Control, Controls
from stream.drafts import Part
from stream.events import Event
from stream.inbox import Malformed
from stream.outbox import Outbox
from stream.recorder import Recorder
from stream.web.errors import Refused

MODEL = ModelInfo("top", 7, "0" * 64, threshold=2.0, median=1.0)


class Desk:
    """A control, what it did, and what it answered."""

    def __init__(self, outbox: Outbox) -> None:
        self.did: list[tuple[object, ...]] = []
        self.events: list[Event] = []
        recorder = Recorder(outbox, site="s", line="l", on_recorded=self.events.extend)
        controls = Controls(
            self._set_threshold, self._choose, lambda *words: self.did.append(("enable", *words))
        )
        self.recorder = recorder
        self.control = Control(frozenset({"top"}), controls, recorder)

    async def _set_threshold(self, camera: str, level: float | None) -> ModelInfo:
        self.did.append(("threshold", camera, level))
        return MODEL

    async def _choose(self, camera: str, ref: str) -> ModelInfo:
        if ref == "top@13":
            raise KeyError("top")
        if ref not in ("top@7", "bracket@latest"):
            raise Refused("There is no such model: train it first.")
        self.did.append(("model", camera, ref))
        return MODEL

    def ask(self, **fields: str) -> tuple[str, str | None]:
        assert asyncio.run(self.control.take("5-0", fields))
        return str(self.events[-1].detail["answer"]), self.events[-1].reason


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    outbox = Outbox(tmp_path / "outbox.db")
    yield Desk(outbox)
    assert outbox.pending == 0 or {"answers", "events"} <= set(outbox.streams())
    outbox.close()


def test_what_can_be_done_is_done(desk: Desk) -> None:
    assert desk.ask(command="threshold", camera="top", value="2.5") == ("done", "the alarm level is 2")
    assert desk.ask(command="threshold", camera="top", value="default")[0] == "done"
    assert desk.ask(command="model", camera="top", value="top@7") == ("done", "inspected with top@7")
    assert desk.ask(command="disable", camera="top") == ("done", "not inspected")
    assert desk.ask(command="enable", camera="top") == ("done", "inspected")
    assert desk.did == [
        ("threshold", "top", 2.5),
        ("threshold", "top", None),
        ("model", "top", "top@7"),
        ("enable", "top", False),
        ("enable", "top", True),
    ]


def test_a_recipe_is_a_model_whose_name_stands_in_the_cameras_events(desk: Desk) -> None:
    assert desk.ask(command="recipe", camera="top", value="bracket") == (
        "done",
        "recipe bracket, inspected with top@7",
    )
    assert desk.did == [("model", "top", "bracket@latest")]
    assert desk.ask(command="recipe", camera="top", value="nothing")[0] == "refused"
    told = [
        *desk.recorder.camera_down("top", "unplugged"),
        *desk.recorder.camera_down("side", "unplugged"),
        *desk.recorder.verdict("top", Part("a"), "ok"),
        *desk.recorder.verdict("top", Part("b", recipe="of the trigger"), "ok"),
    ]
    assert [event.recipe for event in told] == ["bracket", "NA", "bracket", "of the trigger"]
    desk.ask(command="model", camera="top", value="top@7")
    assert [event.recipe for event in desk.recorder.finding("top", "dark", "night")] == ["NA"]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"command": "explode", "camera": "top"}, "there is no command explode"),
        ({"command": "enable", "camera": "left"}, "there is no camera left"),
        ({"command": "model", "camera": "top", "value": "../x"}, "no such model"),
        ({"command": "threshold", "camera": "top", "value": "inf"}, "not an alarm level"),
        ({"command": "threshold", "camera": "top"}, "not an alarm level"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(desk: Desk, fields: dict[str, str], why: str) -> None:
    answer, reason = desk.ask(**fields)
    assert answer == "refused" and reason is not None and why in reason
    assert desk.did == []


def test_a_bug_in_one_command_is_answered_and_the_next_one_is_carried_out(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    answer, reason = desk.ask(command="recipe", camera="top", value="top@13")
    assert (answer, reason) == ("refused", "a bug of Linewatch (KeyError); its log says where")
    assert "Traceback" in caplog.text and "in _choose" in caplog.text
    assert desk.ask(command="model", camera="top", value="top@7")[0] == "done"


def test_the_answer_carries_the_senders_id_or_the_entrys(desk: Desk) -> None:
    desk.ask(command="enable", camera="top", id="c1"), desk.ask(command="enable", camera="top")
    assert [event.detail["id"] for event in desk.events] == ["c1", "5-0"]
    assert desk.events[0].type == "system.command"


@pytest.mark.parametrize("fields", [{}, {"command": "enable"}, {"command": "a\tb", "camera": "top"}])
def test_what_is_no_command_is_malformed(desk: Desk, fields: dict[str, str]) -> None:
    with pytest.raises(Malformed):
        asyncio.run(desk.control.take("5-0", fields))
    assert desk.events == []
