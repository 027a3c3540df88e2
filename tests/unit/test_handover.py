import asyncio
import threading

import pytest

from stream.handover import Handover


async def test_items_of_another_thread_arrive_on_the_loop_in_order() -> None:
    arrived: list[int] = []
    done = asyncio.Event()

    def take(items: list[int]) -> None:
        arrived.extend(items)
        if len(arrived) == 100:
            done.set()

    handover: Handover[int] = Handover(asyncio.get_running_loop(), take, 1000)
    thread = threading.Thread(target=lambda: [handover.put(n) for n in range(100)])
    thread.start()
    await asyncio.wait_for(done.wait(), 5)
    thread.join()
    assert arrived == list(range(100))


async def test_a_loop_that_stands_still_gets_the_newest_and_a_count() -> None:
    arrived: list[int] = []
    displaced: list[int] = []
    handover: Handover[int] = Handover(asyncio.get_running_loop(), arrived.extend, 3, displaced.append)
    for n in range(5):
        handover.put(n)
    handover.flush()
    assert arrived == [2, 3, 4]
    assert displaced == [0, 1]


async def test_a_bug_in_the_taker_is_kept_for_the_owner_and_nothing_more_is_taken() -> None:
    def take(items: list[int]) -> None:
        raise ValueError(items)

    handover: Handover[int] = Handover(asyncio.get_running_loop(), take, 3)
    handover.put(1)
    with pytest.raises(ValueError, match="1"):
        handover.flush()
    handover.put(2)
    handover.flush()
    assert isinstance(handover.died, ValueError)


def test_items_after_the_loop_was_closed_are_forgotten() -> None:
    loop = asyncio.new_event_loop()
    handover: Handover[int] = Handover(loop, lambda items: None, 3)
    loop.close()
    handover.put(1)


async def test_a_smaller_size_displaces_the_oldest_and_a_larger_one_takes_more() -> None:
    taken: list[int] = []
    displaced: list[int] = []
    handover = Handover(asyncio.get_running_loop(), taken.extend, 3, displaced.append)
    for item in range(3):
        handover.put(item)
    handover.resize(2)
    assert displaced == [0]
    handover.resize(4)
    handover.put(3)
    handover.put(4)
    await asyncio.sleep(0)
    assert (taken, displaced) == ([1, 2, 3, 4], [0])
