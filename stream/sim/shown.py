"""The nouns of a show: what is in front of the camera at a time. Times are seconds since the show began."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]
Phase = Literal["learn", "live"]
PHASES: tuple[Phase, ...] = ("learn", "live")


@dataclass(frozen=True, slots=True)
class ShownDefect:
    """One true defect, in frame pixels (x1, y1 exclusive).

    It stands in `box` from `still_from_s` to `still_to_s`; from `from_s` and until `to_s` its part comes or
    goes,
    and it is somewhere in `sweep`. A picture that doesn't move has the same four times in pairs.
    """

    id: str
    kind: str
    box: Box
    sweep: Box
    from_s: float
    to_s: float
    still_from_s: float
    still_to_s: float


@dataclass(frozen=True, slots=True)
class Shot:
    """What one part or one picture is: shown from `from_s` until the next one; `defects` is empty for a
    good one.
    """

    name: str
    phase: Phase
    from_s: float
    defects: tuple[ShownDefect, ...] = ()


class Show(Protocol):
    """Something to film. Used by one thread at a time; reproducible: the same times answer the same
    pictures.
    """

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, both even."""

    def shot(self, at_s: float) -> Shot:
        """The part or picture that is shown; cheap."""

    def picture(self, at_s: float) -> NDArray[np.uint8]:
        """The frame, (h, w, 3) uint8 RGB; the caller may keep it but not write to it."""

    def prepare(self, at_s: float) -> None:
        """Do what a frame of that time, some tenths of a second ahead, will need and what takes long."""

    def mask(self, at_s: float) -> NDArray[np.bool_]:
        """True where a defect is visible in that frame, (h, w) bool."""

    def set_phase(self, phase: Phase, at_s: float) -> None:
        """From the next part or picture on: `learn` shows good ones only, `live` shows defects among them."""
