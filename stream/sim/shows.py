"""What a simulated camera films: the pattern production line, or a folder of pictures."""

from .flaws import Mask
from .line import ProductionLine
from .looks import Picture
from .shown import Phase, Shot


class PatternShow:
    """The production line; `learn` shows good parts only. A switch takes effect with the next part."""

    def __init__(self, look: str, seed: int = 0, size: tuple[int, int] = (640, 480)) -> None:
        self._line = ProductionLine(look, seed, size)
        self._good_before_s = float("-inf")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._line.size

    def shot(self, at_s: float) -> Shot:
        """The part in front of the camera."""
        return self._line.shot(at_s, self._good_before_s)

    def picture(self, at_s: float) -> Picture:
        """The frame, (h, w, 3) uint8 RGB."""
        return self._line.picture(at_s, self._good_before_s)

    def prepare(self, at_s: float) -> None:
        """Draw the part of that time."""
        self._line.prepare(at_s, self._good_before_s)

    def mask(self, at_s: float) -> Mask:
        """Where defects are visible, (h, w) bool."""
        return self._line.mask(at_s, self._good_before_s)

    def set_phase(self, phase: Phase, at_s: float) -> None:
        """Parts that come in after `at_s` may be defective when live, and never when learning."""
        self._good_before_s = float("inf") if phase == "learn" else at_s
