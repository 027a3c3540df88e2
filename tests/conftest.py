"""Rules for every test: a task, thread or child process that is left over fails the test that left it."""

import asyncio
import contextlib
import gc
import inspect
import multiprocessing
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

# Threads that libraries keep for the whole process; ours are never named so.
_LIBRARY_THREADS = (
    "pydevd",
    "ThreadPoolExecutor",
    "asyncio_",
    "AnyIO",
    "pytest_timeout",
    "QueueFeeder",
    "tqdm",
)


def _our_threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.is_alive() and not t.name.startswith(_LIBRARY_THREADS)}


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = _our_threads()
    yield
    if _our_threads() - before:
        gc.collect()  # what torch's tracing held hangs together in circles
    deadline = time.monotonic() + 2.0
    while (left := _our_threads() - before) and time.monotonic() < deadline:
        next(iter(left)).join(0.05)
    assert not left, f"left-over threads: {sorted(t.name for t in left)}"
    assert not multiprocessing.active_children()


@pytest_asyncio.fixture
async def no_task_left() -> AsyncIterator[None]:
    async with _no_task_left():
        yield


@pytest_asyncio.fixture(loop_scope="module")
async def no_task_left_in_module() -> AsyncIterator[None]:
    """The same on the loop that a file's tests share; they are marked with it."""
    async with _no_task_left():
        yield


@contextlib.asynccontextmanager
async def _no_task_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    if left := asyncio.all_tasks() - before - {asyncio.current_task()}:
        _, pending = await asyncio.wait(left, timeout=1.0)
        assert not pending, f"left-over tasks: {pending}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        runs_on_a_loop = isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj)
        if runs_on_a_loop and "no_task_left_in_module" not in item.fixturenames:
            item.fixturenames.insert(0, "no_task_left")
    # What takes minutes comes first: begun last, it would run alone while the other workers are idle.
    items.sort(key=lambda item: -(item.get_closest_marker("slow") is not None) * _timeout_s(item))


def pytest_collection_finish() -> None:
    # What was imported stays until the end: looked through at each collection, it cost a tenth of the time.
    gc.collect()
    gc.freeze()


def _timeout_s(item: pytest.Item) -> float:
    mark = item.get_closest_marker("timeout")
    return float(mark.args[0]) if mark is not None and mark.args else 0.0
