"""What a peer may ask of the line is looked at before it goes to the broker."""

from pathlib import Path
from typing import Any

import pytest

from stream.bridges.link import LineLink, Place
from stream.bridges.sink import Answer
from tests.brokers import KEYS


class Broker:
    """Takes what is sent, and answers nothing."""

    def __init__(self) -> None:
        self.sent: list[dict[str, str]] = []

    async def xadd(self, key: str, fields: dict[str, str], maxlen: int, approximate: bool) -> None:
        self.sent.append(fields)
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
