"""When a picture was taken (pure)."""

from dataclasses import dataclass

# Between two bounds of one camera's clock drift (±100 ppm is a bad crystal) and what a reader's delay may
# hide.
_LEAK = 0.001
_JUMP_S = 5.0
# Sender reports are exact to some milliseconds.
_AHEAD_S = 0.05


@dataclass
class PtsClock:
    """UTC seconds for the pictures of one connection.

    `clock` "camera": the camera's own time from RTCP sender reports, believed while it is within
    `max_offset_s` of ours and no picture was taken after it arrived. "host": the arrival, corrected by the
    presentation time: a picture that waited on its way is dated back to where the least delayed ones of late
    say that it belongs, by five seconds at most: presentation times that stand still or run slow would else
    leave the pictures ever further behind, and none would be due any more.
    """

    max_offset_s: float = 5.0
    offset_s: float | None = None
    """Camera's clock minus ours, of the last picture that had both; None without sender reports."""
    _base: float | None = None
    _camera_base: float | None = None
    _last_pts_s: float = 0.0
    _is_ahead: bool = False

    def taken_at(
        self,
        pts_s: float | None,
        arrived_at: float,
        by_camera: float | None,
        steady_at: float | None = None,
    ) -> tuple[float, str]:
        """(UTC seconds, clock) of a picture; `arrived_at` and `by_camera` are UTC seconds.

        `steady_at` is the arrival by a clock that nobody sets (`time.monotonic`): a host whose clock is set
        while the camera sends dates its pictures by the new time at once. None: as if it were never set.
        """
        steady_at = arrived_at if steady_at is None else steady_at
        by_host = arrived_at - steady_at + self._by_host(pts_s, steady_at)
        by_camera = self._by_camera(pts_s, by_camera)
        if by_camera is None:
            return by_host, "host"
        self.offset_s = by_camera - by_host
        if by_camera > arrived_at + _AHEAD_S:
            self._is_ahead = True
        elif self.offset_s <= 0.0:
            self._is_ahead = False
        if self._is_ahead or abs(self.offset_s) > self.max_offset_s:
            return by_host, "host"
        return by_camera, "camera"

    def _by_camera(self, pts_s: float | None, said: float | None) -> float | None:
        """The library marks most pictures with the camera's time and leaves some out: those follow from the
        presentation time, or one stream would speak of two clocks in turn.
        """
        if pts_s is None:
            return said
        if said is not None:
            self._camera_base = said - pts_s
        return None if self._camera_base is None else self._camera_base + pts_s

    def _by_host(self, pts_s: float | None, arrived_at: float) -> float:
        """As `taken_at`, all by the clock that nobody sets."""
        if pts_s is None:
            return arrived_at
        step_s = pts_s - self._last_pts_s
        self._last_pts_s = pts_s
        if self._base is None or abs(step_s) > _JUMP_S or arrived_at - pts_s - self._base > _JUMP_S:
            self._base = arrived_at - pts_s
            self._camera_base = None
        elif step_s == 0.0:  # a presentation time that stands still says nothing
            return arrived_at
        # The least delayed picture sets the base; the leak lets it follow clocks that drift apart.
        self._base = min(self._base + _LEAK * max(0.0, step_s), arrived_at - pts_s)
        return self._base + pts_s
