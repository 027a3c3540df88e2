"""In which state a camera is, and why (pure: facts in, `now` in, state out).

connecting   an attempt runs or is about to, and the last picture is not long ago
live         pictures come, and their content changes
frozen       pictures come, but they all show the same
down         no picture for `down_after_s`; attempts go on
refused      the camera said no; attempts go on, slowly, but a person has to do something

Only pictures that are due are looked at; the others, of a camera that sends more than is inspected, still say
that it sends. A camera that is asked for a picture a minute is given the time for it.
"""

from dataclasses import dataclass
from typing import Literal

from .sources.base import Refused, SourceError

# Pictures in a row that must be new before a frozen camera is believed: a hung one that re-encodes its only
# picture makes a new one now and then, a live one makes nothing else.
_SURE = 3

# A source that waits for pictures has shown that it is let in when it did not fail again for so long.
_LET_IN_S = 1.0

# One picture may be late, and a turn is given up to half an interval early.
_INTERVALS = 2.5

State = Literal["connecting", "live", "frozen", "down", "refused"]


@dataclass(frozen=True, slots=True)
class CameraState:
    """What a person sees. `reason` is one sentence without credentials; `since` is UTC seconds."""

    camera: str
    state: State
    reason: str
    since: float

    @property
    def words(self) -> str:
        """`down: no picture within 10 s`; the state alone where the reason says no more than that."""
        return self.state if self.reason in ("", self.state) else f"{self.state}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a camera may show nothing, or nothing new (None: for ever), when a picture is due every
    `interval_s` (0.0: all are).
    """

    down_after_s: float
    frozen_after_s: float | None
    interval_s: float = 0.0

    @property
    def slow_down_s(self) -> float:
        """`down_after_s` for a camera whose pictures are all due."""
        return max(self.down_after_s, _INTERVALS * self.interval_s)

    @property
    def frozen_s(self) -> float | None:
        """`frozen_after_s`, but no less than it takes to see another picture."""
        return self.frozen_after_s and max(self.frozen_after_s, _INTERVALS * self.interval_s)


class Condition:
    """Keeps the facts about one camera. All times are monotonic seconds."""

    def __init__(self, patience: Patience, *, now: float) -> None:
        self._patience = patience
        self._quiet_since = now
        self._new_at = now
        self._error: SourceError | None = None
        self._what = ""
        self._connected = False
        self._waiting_since: float | None = None
        self._pictured = False
        self._steady = True
        self._over = False
        self._new_in_a_row = 0
        self._sends_more = False

    def retune(self, patience: Patience) -> None:
        """Other limits from now on; what is known of the camera stays."""
        self._patience = patience

    def attempt(self, *, steady: bool) -> None:
        """A new attempt began. `steady`: its pictures come by themselves."""
        self._steady = steady
        self._waiting_since = None
        self._connected = self._pictured = self._sends_more = False

    def connected(self, what: str) -> None:
        self._connected, self._what = True, str(what)  # a package may say None

    def picture(self, now: float, *, new: bool) -> None:
        """A picture arrived; `new` if its content differs from the one before."""
        self._new_in_a_row = self._new_in_a_row + 1 if new else 0
        is_first = not self._pictured
        if new and (is_first or self._new_in_a_row >= _SURE or not self._is_frozen(now)):
            self._new_at = now
        self._quiet_since = now
        self._connected = self._pictured = True
        self._error = None

    def left_out(self, now: float) -> None:
        """A picture arrived that was not due: nobody looked at its content."""
        self._quiet_since = now
        self._sends_more = True

    def failed(self, error: SourceError) -> None:
        self._error = error
        self._connected = self._pictured = False

    def finished(self) -> None:
        """The source is over for good; nothing will be tried again."""
        self._over = True

    def judge(self, now: float) -> tuple[State, str]:
        """The state and its reason at `now`."""
        state, reason = self._judged(now)
        # A file's name may hold bytes that are no text: no event and no page could be written of it.
        return state, reason.encode(errors="replace").decode()

    def _judged(self, now: float) -> tuple[State, str]:
        if self._over:
            return "down", str(self._error or "the recording is over")
        if isinstance(self._error, Refused) and not self._is_let_in(now):
            return "refused", str(self._error)
        if not self._steady and self._connected:
            return "live", self._what
        if now - self._quiet_since >= self._down_after_s():
            return "down", str(self._error or self._no_picture())
        if self._pictured:
            return self._live(now)
        return "connecting", self._connecting()

    def _is_let_in(self, now: float) -> bool:
        """Whether what was refused is granted now, though no picture says so: none may come for hours."""
        if self._steady or not self._connected:
            return False
        self._waiting_since = now if self._waiting_since is None else self._waiting_since
        return now - self._waiting_since >= _LET_IN_S

    def _connecting(self) -> str:
        if not self._connected:
            return str(self._error or "connecting")
        return f"{self._what}; before that: {self._error}" if self._error else self._what

    def _no_picture(self) -> str:
        what = f" ({self._what})" if self._connected and self._what else ""
        return f"no picture within {self._down_after_s():g} s{what}"

    def _down_after_s(self) -> float:
        """Only who is connected and sends no more than is asked for may take the longer time."""
        is_slow = self._pictured and not self._sends_more
        return self._patience.slow_down_s if is_slow else self._patience.down_after_s

    def _live(self, now: float) -> tuple[State, str]:
        if self._steady and self._is_frozen(now):
            return (
                "frozen",
                f"pictures arrive, but their content has not changed for {self._patience.frozen_s:g} s",
            )
        return "live", self._what

    def _is_frozen(self, now: float) -> bool:
        limit = self._patience.frozen_s
        return limit is not None and now - self._new_at >= limit
