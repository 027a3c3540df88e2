"""Logins that last, and logins that fail too often. Pure: `now` (monotonic s) is an argument."""

import hashlib
import secrets
from collections import OrderedDict

MAX_SESSIONS = 1000
MAX_EACH = 100


class Sessions:
    """Who is logged in, by a random cookie value of which only the hash is kept. Gone after a restart.

    The oldest of more than 1,000 sessions ends, and of more than 100 of one user: a script that logs in anew
    for each request sends nobody else out.
    """

    def __init__(self, lifetime_s: float) -> None:
        self._lifetime_s = lifetime_s
        self._by_hash: OrderedDict[bytes, tuple[str, str, float]] = OrderedDict()

    def open(self, user: str, mark: str, now: float) -> str:
        """A new session's cookie value; `mark` is what the user's password looked like."""
        value = secrets.token_urlsafe(32)
        self._by_hash[_hash(value)] = (user, mark, now + self._lifetime_s)
        theirs = [key for key, (name, _, _) in self._by_hash.items() if name == user]
        if len(theirs) > MAX_EACH:
            del self._by_hash[theirs[0]]
        if len(self._by_hash) > MAX_SESSIONS:
            self._by_hash.popitem(last=False)
        return value

    def user(self, value: str, now: float) -> tuple[str, str] | None:
        """Who has this cookie, and with which mark, if the session still lasts."""
        if (found := self._by_hash.get(_hash(value))) is None:
            return None
        user, mark, ends_at = found
        if now >= ends_at:
            del self._by_hash[_hash(value)]
            return None
        return user, mark

    def close(self, value: str) -> None:
        """Log out; nothing happens to who isn't logged in."""
        self._by_hash.pop(_hash(value), None)


class LoginLimit:
    """How often somebody may guess: `burst` times at once, then once in `every_s`; per key.

    At most 1,000 keys are remembered; the one that was quiet longest is forgotten.
    """

    MAX_KEYS = 1000

    def __init__(self, burst: int = 5, every_s: float = 12.0) -> None:
        self._burst = burst
        self._every_s = every_s
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, keys: tuple[str, ...], now: float) -> float:
        """How long until another guess is allowed; 0 = now."""
        return max(0.0, *(self._left(key, now) - self._burst + 1 for key in keys)) * self._every_s

    def failed(self, keys: tuple[str, ...], now: float) -> None:
        """One guess was wrong."""
        for key in keys:
            self._spent[key] = (self._left(key, now) + 1, now)
            self._spent.move_to_end(key)
        while len(self._spent) > self.MAX_KEYS:
            self._spent.popitem(last=False)

    def forgive(self, keys: tuple[str, ...]) -> None:
        """The right password takes the last guess back, not those before it."""
        for key in keys:
            if key in self._spent:
                count, at = self._spent[key]
                self._spent[key] = (max(0.0, count - 1), at)

    def _left(self, key: str, now: float) -> float:
        count, at = self._spent.get(key, (0.0, now))
        return max(0.0, count - (now - at) / self._every_s)


def _hash(value: str) -> bytes:
    return hashlib.sha256(value.encode()).digest()
