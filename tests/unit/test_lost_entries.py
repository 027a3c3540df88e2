"""What the broker lost is looked for while others go on using the outbox."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import WatchError

from stream.outbox import Outbox
from stream.replay import Kept, StreamInfo, first_lost
from tests.brokers import facts


class Empty:
    """A broker that has lost everything; `asked` is called at each question."""

    def __init__(self, asked: Callable[[int], None]) -> None:
        self._asked, self._count = asked, 0

    async def xrange(self, key: str, **limits: Any) -> list[Any]:
        self._count += 1
        self._asked(self._count)
        return []


@pytest.mark.parametrize("at", [1, 2, 5])
async def test_a_window_that_is_given_up_meanwhile_makes_the_search_begin_anew(
    tmp_path: Path, at: int
) -> None:
    """A full outbox gives up its window whenever something is put: the publisher died of it, and the line."""
    outbox = Outbox(tmp_path / "o.db", max_bytes=400_000)
    outbox.put(facts(300))
    outbox.assign([(row.n, (1, row.n)) for row in outbox.take("events", 1000)])
    outbox.acknowledge(outbox.take("events", 1000))

    def fill(question: int) -> None:
        while question == at and outbox.kept_count("events"):
            outbox.put(facts(100))

    empty: Any = Empty(fill)
    with pytest.raises(WatchError, match="gave up its window"):
        await first_lost(empty, "key", "events", outbox, StreamInfo(), None, Kept(1000))
    assert await first_lost(empty, "key", "events", outbox, StreamInfo(), None, Kept(1000)) is None
    outbox.close()
