"""What a peer may ask of the line is looked at before it goes to the broker."""

import contextlib
import time
from pathlib import Path
from typing import Any

import pytest

from stream.bridges.link import LineLink, Place
from stream.bridges.sink import Answer, PeerAway
from stream.events import utc_seconds
from tests.brokers import KEYS


class Broker:
    """Takes what is sent, and answers nothing."""

    def __init__(self) -> None:
        self.sent: list[dict[str, str]] = []
        self.fails = True

    async def xadd(self, key: str, fields: dict[str, str], maxlen: int, approximate: bool) -> None:
        self.sent.append(fields)
        if self.fails:
            raise OSError("enough")


@pytest.mark.parametrize(
    ("command", "camera", "value", "why"),
    [
        ("\ud800", "top", "1", "command must be printable text of at most 128 characters"),
        ("x" * 129, "top", "1", "command must be printable text of at most 128 characters"),
        ("", "top", "1", "command is missing"),
        ("enable", "to\np", "", "camera must be printable text of at most 128 characters"),
        ("enable", "", "", "camera is missing"),
        ("recipe", "top", "\udcff", "value must be printable text of at most 128 characters"),
    ],
)
async def test_a_command_that_the_line_could_not_read_is_refused_and_not_sent(
    command: str, camera: str, value: str, why: str
) -> None:
    broker: Any = Broker()
    place = Place("test", "line-1", ("top",), frozenset(), 1000.0, Path())
    link = LineLink(lambda timeout_s: broker, KEYS, place)
    assert await link.ask(command, camera, value) == Answer("refused", why)
    assert broker.sent == []
    assert (await link.ask("disable", "top", "")).answer == "unanswered"
    assert len(broker.sent) == 1


async def test_a_trigger_that_is_asked_again_after_it_failed_is_the_same_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker: Any = Broker()
    place = Place("test", "line-1", ("top",), frozenset({"top"}), 1000.0, Path())
    link, now = LineLink(lambda timeout_s: broker, KEYS, place), 1000.0
    monkeypatch.setattr("stream.bridges.link.time.monotonic", lambda: now)

    async def asked(part_id: str = "A-1") -> str:
        with contextlib.suppress(PeerAway):
            await link.trigger("top", part_id, "job")
        return broker.sent[-1]["id"]

    first = await asked()
    for _ in range(3):  # the broker is away for longer than the line takes a part for the same one
        now += 6.0
        assert await asked() == first != await asked("A-2")
    now += 10.0
    another = await asked()
    assert another != first, "it was given up, and its carrier comes round"
    broker.fails = False
    assert await asked() == another
    assert await asked() != another
    assert link._unsure.keys() <= {("top", "A-2", "job")}
    # A broker that stalls would date it when it goes on.
    assert abs(utc_seconds(broker.sent[-1]["at"]) - time.time()) < 60.0


class Nonsense(Broker):
    """Somebody has written into the status hash what is no text."""

    def pipeline(self, transaction: bool) -> "Nonsense":
        return self

    async def __aenter__(self) -> "Nonsense":
        return self

    async def __aexit__(self, *_: object) -> None: ...

    def get(self, key: str) -> None: ...

    def hgetall(self, key: str) -> None: ...

    async def execute(self) -> list[Any]:
        return [b"1", {b"ready": b"1", b"note": b"\xff"}]


async def test_a_status_that_is_no_text_ends_no_bridge() -> None:
    """It ended the process, and the next one, and so on: for the PLC the line was gone."""
    broker: Any = Nonsense()
    place = Place("test", "line-1", ("top",), frozenset(), 1000.0, Path())
    link = LineLink(lambda timeout_s: broker, KEYS, place)
    await link._look()
    assert link.alive and link.status("top")["ready"] == "1"
