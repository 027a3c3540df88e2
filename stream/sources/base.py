"""What a source of pictures is, what it may say while it runs, and how it fails.

A source runs in a thread of its own until it fails or is told to stop. It never retries: its supervisor
(stream/camera.py) starts another one. It knows neither its camera's state nor the numbers of its frames.

SourceError            how a source ends; its text is one sentence for a person, without credentials
 ├── Refused           the camera answered no (401, 403, 404), or cannot be what is configured: needs a person
 ├── Unreachable       no connection within the connect deadline: no such host, no route, no device
 ├── Stalled           connected, but nothing came within the read deadline
 ├── Broken            something came that is no picture: garbage, an unknown codec, a damaged file
 └── Ended             it is over without an error: end of the file, or the server closed the stream
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

GROUP = "linewatch.sources"
MAX_PIXELS = 100_000_000  # as of a picture from a file
_importing = threading.Lock()


class SourceError(Exception):
    """Base of all ways in which a source ends. `reason` is a word for counters, the text is for people."""

    user_message = True
    reason = "failed"
    cap_s = 2.0
    """The longest wait before the next attempt; small: a camera that is back shall be live within 3 s."""


class Refused(SourceError):
    """The camera answered no, or cannot be what is configured; retried slowly: only a person can help."""

    reason = "refused"
    cap_s = 30.0  # cameras lock users out who fail too often


class Unreachable(SourceError):
    """No connection came about within the connect deadline."""

    reason = "unreachable"


class Stalled(SourceError):
    """Connected, but nothing came within the read deadline."""

    reason = "stalled"


class Broken(SourceError):
    """What came cannot be decoded into pictures."""

    reason = "broken"


class Ended(SourceError):
    """The stream or file is over, and nobody called it an error. `final`: there is nothing to try again."""

    reason = "ended"

    def __init__(self, text: str, *, final: bool = False) -> None:
        super().__init__(text)
        self.final = final


def check_size(width: int, height: int) -> None:
    """Raises Refused for a picture that would take the memory which all cameras share."""
    if width * height > MAX_PIXELS:
        raise Refused(
            f"its pictures of {width}×{height} are too large (100 megapixels at most); make them smaller"
        )


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a source may be silent before it is given up: until `connected()`, and afterwards."""

    connect_s: float = 5.0
    read_s: float = 3.0


class Sink(Protocol):
    """What a running source tells its supervisor. Every method returns at once; any thread may call it.

    The calls of a source that was given up are ignored, so a late frame can never appear behind a newer one.
    """

    def connected(self, what: str) -> None:
        """The camera answered; `what` says in a few words what will come ("H.264 1280×720 over TCP")."""

    def alive(self) -> None:
        """Nothing new, but the source is well: it waits for pictures that come when they come."""

    def due(self, taken_at: float) -> bool:
        """A picture of this time (UTC seconds) was decoded. True if it shall be converted and `put`.

        Call it once for every picture, before the costly conversion: it counts what was received and thins
        out to the camera's frames per second.
        """

    def due_in_s(self, taken_at: float) -> float:
        """For a source whose pictures can wait: how much later one would be due, in seconds; 0.0 for now. It
        counts nothing.
        """

    def put(self, pixels: NDArray[np.uint8], taken_at: float, clock: str = "host") -> None:
        """Hand over a picture that was due: (H, W, 3) uint8 RGB, native size, never written to again.

        `taken_at` is UTC seconds by `clock`: "camera" (the camera's own, RTCP), "ntp" (checked) or "host".
        """

    def skipped(self, why: str) -> None:
        """A picture could not be used ("unreadable"); counted under `why`, a word from a small fixed set."""

    def clock(self, offset_s: float) -> None:
        """The camera's clock minus ours, in seconds, where a source can tell (RTCP sender reports)."""


class Source(Protocol):
    """Pictures of one camera, one connection long. Made anew for every attempt; making it touches nothing."""

    deadlines: Deadlines
    """Enforced by the supervisor from outside; the source's own time-outs should be shorter."""

    steady: bool
    """True: pictures come by themselves, so silence and standstill are faults. False: they come at will."""

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """Runs in a thread of its own until it fails (SourceError) or `stop` is set; then it returns.

        It looks at `stop` whenever something comes, and every 0.2 s where a wait can be broken off unharmed;
        it closes what it opened in this same thread. OSError and FFmpeg's errors never get out: they become a
        SourceError.
        """


@runtime_checkable
class Resuming(Protocol):
    """What a source may offer besides: to go on where another one ended."""

    def resume(self, before: Source) -> None:
        """Called before `run`, with this camera's last source that offered it; which may be of another kind
        or place, and may still hang in a thread. Returns at once.
        """


Factory = Callable[[str, Any], Source]
"""(camera's name, its `source` settings) → Source. What an entry point holds; its name is the `type`."""


def build(camera: str, settings: Any) -> Source:
    """The source that `settings.type` names, by entry point. Raises Refused if nobody provides it."""
    kind = str(settings.type)
    return _factory(camera, kind)(camera, settings)


def kinds() -> list[str]:
    """The `type`s that are installed, sorted."""
    return sorted({point.name for point in entry_points(group=GROUP)})


class _Missing(Exception):
    """Nobody provides this type of source."""


def _factory(camera: str, kind: str) -> Factory:
    try:
        return _installed(kind)
    except _Missing as error:
        raise Refused(
            f"{camera}: no source of type {kind!r} is installed (there are: {', '.join(kinds())})"
        ) from error
    except ImportError as error:
        raise Refused(f"{camera}: the source {kind!r} cannot be loaded: {error}") from error


@cache  # a reconnect every second should not read every package's metadata anew
def _installed(kind: str) -> Factory:
    for point in entry_points(group=GROUP, name=kind):
        # Cameras are made in threads: packages whose modules import each other (PyAV) may show a module half
        # made to a second thread.
        with _importing:
            loaded: Factory = point.load()
        return loaded
    raise _Missing
