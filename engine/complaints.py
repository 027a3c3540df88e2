"""Which errors are said: a broken model fails with every batch, and nobody reads the same line ten times a
second."""

from collections import OrderedDict

from .errors import EngineError, OutOfMemory

EVERY_S = 60.0
_KINDS = 64


class Complaints:
    """The same error (type and text, of no memory the type) at most once in `every_s`; for one thread."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        # Error → when it was last said, and how often it came since without being said.
        self._said: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    def worded(self, error: EngineError, now: float) -> EngineError | None:
        """The error to say, with how often it came unsaid before; None: it was said just now."""
        # CUDA says each time how many bytes are free by now and who has the others.
        key = (type(error).__name__, "" if isinstance(error, OutOfMemory) else str(error))
        said_at, unsaid = self._said.get(key, (None, 0))
        if said_at is not None and now - said_at < self._every_s:
            self._said[key] = (said_at, unsaid + 1)
            return None
        self._said[key] = (now, 0)
        self._said.move_to_end(key)
        if len(self._said) > _KINDS:
            self._said.popitem(last=False)
        return error if not unsaid else type(error)(f"{error} (And {unsaid} times since it was last said.)")
