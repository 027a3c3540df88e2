import asyncio
import threading

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
    handover: Handover[int] = Handover(asyncio.get_running_loop(), arrived.extend, 3)
    for n in range(5):
        handover.put(n)
    handover.flush()
    assert arrived == [2, 3, 4]
    assert handover.displaced == 2


def test_items_after_the_loop_was_closed_are_forgotten() -> None:
    loop = asyncio.new_event_loop()
    handover: Handover[int] = Handover(loop, lambda items: None, 3)
    loop.close()
    handover.put(1)
