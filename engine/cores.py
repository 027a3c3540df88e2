"""How many cores there are to compute on; without torch, which takes long to load."""

import math
import os
from contextlib import suppress
from pathlib import Path

_CONTROL_GROUPS, _MY_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Cores for the network: all of two; of more, one is left to decoding and the event loop."""
    cores = allowed_cores()
    return cores if cores <= 2 else cores - 1


def allowed_cores() -> int:
    """Cores that this process may compute on.

    Of a container or service with a limit (`--cpus`, `CPUQuota=`, `limits.cpu`) so many cores' worth of time:
    more threads would use that up together, and all of them stand still until the next period.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return math.ceil(min(cores, cores_granted()))


def cores_granted(groups: Path = _CONTROL_GROUPS, mine: Path = _MY_GROUP) -> float:
    """So many cores' worth of time do the control groups (version 2) allow that this process is in; infinite
    where nobody limits it.
    """
    granted = math.inf
    try:
        inside = next(line[3:] for line in mine.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration, UnicodeDecodeError):
        return granted
    within = groups / inside.strip("/")
    for folder in (within, *within.parents):
        if not folder.is_relative_to(groups):
            break
        with suppress(OSError, ValueError):  # a limit that isn't there, or says "max"
            quota_us, period_us = (folder / "cpu.max").read_text().split()
            granted = min(granted, int(quota_us) / int(period_us))
    return granted
