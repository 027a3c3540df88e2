"""Where a WHIP push, which the page receives, meets the source that waits for it in another thread."""

import asyncio
import contextlib
import hmac
import secrets
import threading
from collections.abc import Callable, Iterator

PUSH_WITHIN_S = 10.0


class PushRefused(Exception):
    """A push that can't be taken. `status` is the HTTP status to answer, the text a sentence for a person."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Pushed:
    """One push: an SDP offer that waits for its answer. Any thread may answer; only the first counts."""

    def __init__(self, offer: str) -> None:
        self.offer = offer
        self._loop = asyncio.get_running_loop()
        self._answered: asyncio.Future[str] = self._loop.create_future()

    def answer(self, sdp: str) -> None:
        self._settle(lambda: self._answered.set_result(sdp))

    def refuse(self, why: str) -> None:
        self._settle(lambda: self._answered.set_exception(PushRefused(400, why)))

    async def answered(self) -> str:
        """The SDP answer. Raises PushRefused."""
        try:
            async with asyncio.timeout(PUSH_WITHIN_S):
                return await self._answered
        except TimeoutError:
            raise PushRefused(503, "the camera's reader did not answer in time") from None

    def _settle(self, settle: Callable[[], None]) -> None:
        def there() -> None:
            if not self._answered.done():
                settle()

        with contextlib.suppress(RuntimeError):  # the page's loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(there)


class _Waiting:
    """A source that waits; lives in the source's loop."""

    def __init__(self, token: str | None) -> None:
        self.token = token
        self.key = secrets.token_urlsafe(16)
        self.ended = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._pushed: asyncio.Future[Pushed] = self._loop.create_future()
        self._is_taken = threading.Lock()

    def hand(self, pushed: Pushed) -> bool:
        """From any thread; False if somebody else pushed first."""
        if not self._is_taken.acquire(blocking=False):
            return False
        self._loop.call_soon_threadsafe(self._pushed.set_result, pushed)
        return True

    async def next(self, within_s: float) -> Pushed | None:
        """The push, or None if there is none within `within_s`."""
        await asyncio.wait([self._pushed], timeout=within_s)
        return self._pushed.result() if self._pushed.done() else None


class Desk:
    """Which cameras wait for a push. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, _Waiting] = {}

    @contextlib.contextmanager
    def waiting(self, camera: str, token: str | None) -> Iterator[_Waiting]:
        """Wait for pushes while inside; in the source's loop."""
        waiting = _Waiting(token)
        with self._lock:
            self._waiting[camera] = waiting
        try:
            yield waiting
        finally:
            with self._lock:
                if self._waiting.get(camera) is waiting:
                    del self._waiting[camera]

    def end(self, camera: str, key: str) -> bool:
        """The camera says goodbye; False if there is no such push."""
        with self._lock:
            waiting = self._waiting.get(camera)
        if waiting is None or not hmac.compare_digest(waiting.key.encode(), key.encode()):
            return False
        waiting.ended.set()
        return True

    async def push(self, camera: str, authorization: str | None, offer: str) -> tuple[str, str]:
        """An SDP offer and its Authorization header → (key to `end` it, SDP answer); in the page's loop.

        Raises PushRefused.
        """
        with self._lock:
            waiting = self._waiting.get(camera)
        if waiting is None:
            raise PushRefused(404, f"no camera {camera!r} waits for a push")
        if not _is_right(waiting.token, authorization):
            raise PushRefused(401, "the bearer token is missing or wrong")
        pushed = Pushed(offer)
        if not waiting.hand(pushed):
            raise PushRefused(409, f"{camera} is receiving already; try again in a few seconds")
        return waiting.key, await pushed.answered()


def _is_right(token: str | None, authorization: str | None) -> bool:
    if token is None:
        return True
    scheme, _, shown = (authorization or "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(shown.strip().encode(), token.encode())


DESK = Desk()
"""The process's own: entry points, which make sources, know no more than a camera's name and settings."""
