"""The line's state for open pages: one task makes it, and only while somebody listens."""

import asyncio

import pytest

from stream.web.feed import Feed
from stream.web.viewers import Seats


@pytest.mark.parametrize("turns", range(6))
async def test_a_feed_that_is_left_at_the_moment_of_a_change_ends(turns: int) -> None:
    """A cancellation that meets the end of a wait must not get lost: the task would go on for ever."""
    feed = Feed(lambda: b"state", seats=Seats(1))
    with feed.listen():
        (teller,) = (task for task in asyncio.all_tasks() if task.get_name() == "feed")
        for _ in range(5):  # it begins to wait
            await asyncio.sleep(0)
        feed.changed()
        for _ in range(turns):
            await asyncio.sleep(0)
    await asyncio.wait([teller], timeout=3)
    assert teller.cancelled()
