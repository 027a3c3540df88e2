"""Freed memory goes back to the system."""

import asyncio
import os
import subprocess
import sys

import pytest

from stream import heap
from stream.endings import end

_HOLES = """
import ctypes, os
from stream import heap

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def rss_mb():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20

before = rss_mb()
blocks = [libc.malloc(100_000) for _ in range(800)]
for block in blocks:
    libc.memset(block, 1, 100_000)
for number, block in enumerate(blocks):
    if number % 10:  # every tenth stays, so that the top of the heap can't shrink
        libc.free(block)
held = rss_mb() - before
heap.trim()
print(held, rss_mb() - before)
"""

_ARENAS = """
import ctypes, threading
from stream import heap

heap.use_few_arenas()
libc = ctypes.CDLL(None)
go = threading.Barrier(8)

def work():
    go.wait()
    for _ in range(200):
        b"x" * 100_000
    go.wait()

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.fdopen.restype = ctypes.c_void_p
out = libc.fdopen(1, b"w")
libc.malloc_info(0, ctypes.c_void_p(out))
libc.fflush(ctypes.c_void_p(out))
"""

glibc = pytest.mark.skipif(os.confstr("CS_GNU_LIBC_VERSION") is None, reason="it is glibc that keeps memory")


def _told_by(script: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    run = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return run.stdout


@glibc
def test_a_trim_gives_holes_back_to_the_system() -> None:
    held_mb, kept_mb = map(float, _told_by(_HOLES).split())
    assert held_mb > 60
    assert kept_mb < 20


@glibc
def test_many_threads_share_two_arenas() -> None:
    assert _told_by(_ARENAS).count("<heap nr=") == 2


async def test_only_a_line_that_reconnected_is_trimmed(monkeypatch: pytest.MonkeyPatch) -> None:
    trims, counts = [0], iter([0, 0, 3, 3, 3, 4])
    asked_last = asyncio.Event()

    def reconnects() -> int:
        count = next(counts, None)
        if count is None:
            asked_last.set()
            return 4
        return count

    def trim() -> None:
        trims[0] += 1

    monkeypatch.setattr(heap, "trim", trim)
    keeping = asyncio.create_task(heap.keep_trimmed(reconnects, every_s=0.001))
    async with asyncio.timeout(5):
        await asked_last.wait()
    await end([keeping])
    assert trims == [2]
