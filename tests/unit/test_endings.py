import asyncio
import subprocess
import sys

import pytest

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


_HANGING = """if True:
    import asyncio, logging, threading
    from stream.endings import end_process_within
    class Refused(Exception):
        user_message, exit_code = True, 2
    async def main():
        asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
        end_process_within(0.5, ERROR)
    logging.basicConfig()
    asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("error", "code"),
    [("None", 0), ("Refused('the disk is away')", 2), ("RuntimeError('the disk is away')", 1)],
)
def test_a_thread_that_hangs_for_ever_does_not_keep_the_process(error: str, code: int) -> None:
    """asyncio and the interpreter would both wait for it without end, before anybody says what went wrong."""
    program = _HANGING.replace("ERROR", error)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.returncode == code
    assert "a disk or a share does not answer" in ended.stderr
    assert ("the disk is away" in ended.stderr) == (code != 0)
