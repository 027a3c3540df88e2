import asyncio

from stream.endings import end


async def test_a_task_that_swallows_its_first_cancellation_still_ends() -> None:
    began = asyncio.Event()

    async def deaf_once() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    task = asyncio.create_task(deaf_once())
    await began.wait()
    await end([task])
    assert task.cancelled()


async def test_what_a_task_raises_is_its_owners_affair() -> None:
    async def broken() -> None:
        raise ValueError

    task = asyncio.create_task(broken())
    await asyncio.wait([task])
    await end([task])
    assert isinstance(task.exception(), ValueError)


async def test_ending_nothing_returns() -> None:
    await end([])
