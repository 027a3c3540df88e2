"""One attempt at a camera: a source in a thread of its own, watched from outside.

The reader is the source's sink. Once it is given up it lets nothing through any more: being closed is the
generation token, so a thread that wakes up late inside a library cannot put an old picture behind a newer
one.
"""

import logging
import threading
import time
import traceback
from collections.abc import Callable
from numbers import Real
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .sources.base import Ended, Refused, Resuming, Source, SourceError, Stalled, Unreachable

log = logging.getLogger(__name__)

_YEAR_3000_S = 32_503_680_000.0


class Intake(Protocol):
    """What the camera does with a reader's news. Called from the reader's thread, under the camera's lock."""

    def on_connected(self, what: str) -> None: ...

    def on_received(self, taken_at: float) -> bool: ...

    def due_in_s(self, taken_at: float) -> float: ...

    def on_picture(self, pixels: NDArray[np.uint8], taken_at: float, clock: str) -> None: ...

    def on_skipped(self, why: str) -> None: ...

    def on_clock(self, offset_s: float) -> None: ...


class Making:
    """Makes a source in a thread of its own, a daemon: a vendor's factory may take long, hang, or raise.

    `source` is the source, or why there is none; None while it is being made. One that can be resumed was
    told where `before` ended. `wake` is called from the thread.
    """

    def __init__(
        self, make_source: Callable[[], Source], before: Source | None, wake: Callable[[], None]
    ) -> None:
        self.source: Source | SourceError | None = None
        self._make_source, self._before, self._wake = make_source, before, wake
        threading.Thread(target=self._run, name="source", daemon=True).start()

    def _run(self) -> None:
        try:
            source = self._make_source()
            if isinstance(source, Resuming) and self._before is not None:
                source.resume(self._before)
            why = _why_no_source(source)
            self.source = source if why is None else Refused(why)
        except SourceError as error:
            self.source = error
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the thread's outermost line
            # Some makers' packages call `sys.exit` where their SDK is missing.
            _log_bug("a source cannot be made", error)
            self.source = SourceError(f"the source cannot be made: {type(error).__name__}")
        self._wake()


def _log_bug(what: str, error: BaseException) -> None:
    """Where it happened, but not the error's own words: they may hold an address with its password."""
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s: %s\n%s", what, type(error).__name__, where)


def _alone(error: SourceError) -> SourceError:
    """Without the frames that it came through: they hold the reader, which keeps the error, and the decoder.

    Such a ring stays until Python's next full collection, which is rare; each was a quarter of a megabyte.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


def _why_no_source(source: object) -> str | None:
    """A factory may forget to return one; and what lacks something would fail in the supervision, which
    stops the line.
    """
    deadlines = getattr(source, "deadlines", None)
    limits = (getattr(deadlines, name, None) for name in ("connect_s", "read_s"))
    is_whole = callable(getattr(source, "run", None)) and hasattr(source, "steady")
    if is_whole and all(isinstance(limit, Real) for limit in limits):
        return None
    return (
        f"the source is a {type(source).__name__} that lacks something: wanted are run, steady and deadlines "
        "(connect_s and read_s, in seconds), as in stream/sources/base.py"
    )


def _why_no_picture(pixels: object) -> str | None:
    wanted = "wanted is an array (height, width, 3) of uint8, in the order R, G, B"
    if not isinstance(pixels, np.ndarray):
        return f"the source hands over a {type(pixels).__name__}: {wanted}"
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size or pixels.dtype != np.uint8:
        return f"the source hands over an array {pixels.shape} of {pixels.dtype}: {wanted}"
    return None


def _why_no_time(taken_at: object) -> str | None:
    if isinstance(taken_at, Real) and abs(float(taken_at)) < _YEAR_3000_S:
        return None
    return f"the source dates a picture {taken_at!r}: wanted are UTC seconds since 1970, as time.time() has"


class Reader:
    """Runs `source` once. `wake` is called from the reader's thread when the supervisor should look."""

    def __init__(
        self, source: Source, intake: Intake, lock: threading.Lock, wake: Callable[[], None], name: str
    ) -> None:
        self.source = source
        self.error: SourceError | None = None
        self._intake = intake
        self._lock = lock
        self._wake = wake
        self._stop = threading.Event()
        self._closed = False
        self._ended = threading.Event()
        self._sign_at = time.monotonic()
        self._is_connected = False
        # A daemon: a thread that hangs inside a library must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._sign_at = time.monotonic()
        self._thread.start()

    def ask_to_stop(self) -> None:
        """The source returns when it next looks; nothing that it still delivers is let through."""
        self._stop.set()
        with self._lock:
            self._closed = True

    @property
    def ended(self) -> bool:
        """True once the source returned or failed; the thread is then over but for its last instructions."""
        return self._ended.is_set()

    def overdue(self, now: float) -> SourceError | None:
        """The deadline that was missed at `now` (monotonic seconds), if one was."""
        limits = self.source.deadlines
        silent_s = now - self._sign_at
        if not self._is_connected and silent_s > limits.connect_s:
            return Unreachable(f"no connection within {limits.connect_s:g} s")
        if self._is_connected and silent_s > limits.read_s:
            return Stalled(f"connected, but no picture came for {limits.read_s:g} s")
        return None

    # The sink, called by the source.

    def connected(self, what: str) -> None:
        with self._lock:
            if not self._closed:
                self._is_connected = True
                self._sign_at = time.monotonic()
                self._intake.on_connected(what)
        self._wake()

    def alive(self) -> None:
        self._sign_at = time.monotonic()

    def due(self, taken_at: float) -> bool:
        with self._lock:
            if self._closed:
                return False
            self._is_connected = True
            self._sign_at = time.monotonic()
            return self._intake.on_received(taken_at)

    def due_in_s(self, taken_at: float) -> float:
        with self._lock:
            return 0.0 if self._closed else self._intake.due_in_s(taken_at)

    def put(self, pixels: NDArray[np.uint8], taken_at: float, clock: str = "host") -> None:
        """Raises Refused for what is no picture, and ends the source: it would fail all cameras' batch. So
        for a time that is none, in milliseconds say: no event could be written of it.
        """
        if (why := _why_no_picture(pixels) or _why_no_time(taken_at)) is not None:
            # Kept, too: a vendor's thread that calls this may swallow what is raised.
            self.error = Refused(why)
            self._stop.set()
            raise Refused(why)
        pixels.flags.writeable = False
        with self._lock:
            if not self._closed:
                self._intake.on_picture(pixels, taken_at, clock)

    def skipped(self, why: str) -> None:
        with self._lock:
            if not self._closed:
                self._intake.on_skipped(why)

    def clock(self, offset_s: float) -> None:
        with self._lock:
            if not self._closed:
                self._intake.on_clock(offset_s)

    def _run(self) -> None:
        try:
            self.source.run(self, self._stop)
            if not self._stop.is_set():
                self.error = Ended("the source ended without a word")
        except SourceError as error:
            self.error = _alone(error)
        except Exception as error:  # noqa: BLE001 - the thread's outermost line; a vendor's SDK may raise anything
            _log_bug("a source failed in a way that it does not know", error)
            self.error = SourceError(f"the source failed: {type(error).__name__}")
        finally:
            self._ended.set()
            self._wake()
