"""One line of the doctor's."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`subject` is what was looked at; `text` one sentence without secrets, with the mend where one is
    needed.
    """

    subject: str
    level: Level
    text: str


def ok(subject: str, text: str) -> Finding:
    return Finding(subject, "ok", text)


def warning(subject: str, text: str) -> Finding:
    return Finding(subject, "warning", text)


def failed(subject: str, text: str) -> Finding:
    return Finding(subject, "failed", text)
