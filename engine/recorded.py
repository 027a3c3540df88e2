"""Calls on tensors of fixed shapes, recorded once: on a GPU a replay is one launch where the call itself is
hundreds, and those, not the arithmetic, are what a small network costs there.

Recording is CUDA's own (graphs); what goes in and comes out is the same with any way to capture a call, so
tests bring theirs. Whether a recording is worth its memory is measured by whoever makes it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Tensors = tuple[Tensor, ...]
Call = Callable[..., Tensors]
Replay = Callable[[], None]
# Runs a call once for good: a replay that repeats it on whatever its inputs hold by then, and the tensors
# that each replay writes to.
Capture = Callable[[Callable[[], Tensors]], tuple[Replay, Tensors]]

# Before a capture, so that what libraries set up at first use (handles, workspaces, choice of kernel) isn't
# recorded.
_RUNS_BEFORE = 3
# cudaErrorStreamCapture…: this call can't be recorded; the device is as well as before.
_CAPTURE_ERRORS = range(900, 909)


class Recorded:
    """`call` for up to `len(inputs[0])` pictures, on tensors shaped like `inputs`, pictures first.

    For one thread and stream. What a call returns is the caller's own. Raises what `capture` raises.
    """

    def __init__(self, call: Call, inputs: Sequence[Tensor], capture: Capture) -> None:
        held = [tensor.clone() for tensor in inputs]
        self._inputs = held
        # Not this object: a capture holds what it runs, and neither would ever be given back.
        self._replay, self._outputs = capture(lambda: call(*held))

    def __call__(self, *inputs: Tensor) -> Tensors:
        """For n pictures, n no larger than recorded; places beyond them work on what they held before."""
        count = len(inputs[0])
        for held, given in zip(self._inputs, inputs, strict=True):
            held[:count].copy_(given)
        self._replay()
        return tuple(output[:count].clone() for output in self._outputs)


class CudaGraphs:
    """Captures calls on one CUDA device as graphs that share one pool of memory.

    They may: all run on the device thread's stream, one after the other, and what must outlast a replay is
    copied out.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = None

    def __call__(self, run: Callable[[], Tensors]) -> tuple[Replay, Tensors]:
        graph = torch.cuda.CUDAGraph()
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        with torch.cuda.device(self._device):
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            current = torch.cuda.current_stream()
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                for _ in range(_RUNS_BEFORE):
                    run()
            current.wait_stream(stream)
            # Of this thread alone: models for other cameras may be made ready on others meanwhile.
            with torch.cuda.graph(graph, self._pool, stream, capture_error_mode="thread_local"):
                outputs = run()
        return graph.replay, outputs


def can_not_be_recorded(error: RuntimeError) -> bool:
    """Whether this error says no more than that: no memory for it, or a step that graphs don't take."""
    if isinstance(error, torch.AcceleratorError):
        return getattr(error, "error_code", None) in _CAPTURE_ERRORS
    return True
