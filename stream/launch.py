"""How this program starts programs: they never outlive it."""

import os
import sys
from collections.abc import Sequence

# Runs in the child before the program itself: the kernel ends it when we die, however we die (Linux). A
# program of its own and not preexec_fn, which may deadlock in a process with threads.
_LAUNCHER = """
import ctypes, os, signal, sys
parent, niceness, expendable = map(int, sys.argv[1:4])
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)
    if expendable:
        try:
            open("/proc/self/oom_score_adj", "w").write(str(expendable))
        except OSError:
            pass
os.nice(niceness)
os.execv(sys.argv[4], sys.argv[4:])
"""
_LOWEST_PRIORITY = 19
# Where memory runs out, the kernel ends this one and not the line.
_FIRST_TO_GO = 800


def with_us(words: Sequence[str]) -> list[str]:
    """The command line `words` (its program by full path), ended with this process."""
    return _launched(words, 0, 0)


def behind_us(words: Sequence[str]) -> list[str]:
    """The same, and it gets what this process leaves of the CPU and is the first to go without memory."""
    return _launched(words, _LOWEST_PRIORITY, _FIRST_TO_GO)


def _launched(words: Sequence[str], niceness: int, expendable: int) -> list[str]:
    # -IS: quick, and no file that happens to lie in the working folder is imported.
    said = (os.getpid(), niceness, expendable)
    return [sys.executable, "-ISc", _LAUNCHER, *map(str, said), *words]
