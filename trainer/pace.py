"""How many threads training takes on a CPU."""

import os
import time
from collections.abc import Callable

import torch

from engine.cores import allowed_cores

_TRIES = 3
# Fewer threads must be so much faster: with as many as there are the machine is used when others leave it.
_PAYS = 0.9


def settle_threads(step: Callable[[], object]) -> int:
    """Try `step` with all threads, half of them and one, and leave torch at the best; returns that number.

    On cores that are shared with a running line threads wait for each other at every operation: with two of
    them a training took three to forty times as long as with one. Nothing is tried where OMP_NUM_THREADS is
    set. `step` must leave no trace.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return torch.get_num_threads()
    most = min(torch.get_num_threads(), allowed_cores())  # torch doesn't see a container's limit
    torch.set_num_threads(most)
    if most == 1:
        return most
    spent = dict.fromkeys((most, most // 2, 1), 0.0)
    step()  # what only the first one costs
    # In turns, as load comes and goes.
    for _ in range(_TRIES):
        for count in spent:
            torch.set_num_threads(count)
            began = time.perf_counter()
            step()
            spent[count] += time.perf_counter() - began
    best = min(spent, key=lambda count: spent[count])
    chosen = best if spent[best] < _PAYS * spent[most] else most
    torch.set_num_threads(chosen)
    return chosen
