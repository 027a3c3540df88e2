"""Calls on tensors of fixed shapes, recorded once: on a GPU a replay is one launch where the call itself is
hundreds, and those, not the arithmetic, are what a small network costs there.

Recording is CUDA's own (graphs); what goes in and comes out is the same with any way to capture a call, so
tests bring theirs. Whether a recording is worth its memory is measured by whoever makes it.
"""

import weakref
from collections.abc import Callable, Sequence

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
# cudaErrorMemoryAllocation, of making a graph runnable, and cudaErrorStreamCapture…: the device is well.
_NO_RECORDING = frozenset({2, *range(900, 909)})
_STREAMS = 32


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
    """Captures calls on one CUDA device as graphs.

    After one that failed it captures nothing more: torch may be left believing that it still does, and what
    can't be recorded once can't be recorded with another number of pictures either.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._failed: str | None = None
        self._live: dict[int, weakref.ref[torch.cuda.CUDAGraph]] = {}

    def __call__(self, run: Callable[[], Tensors]) -> tuple[Replay, Tensors]:
        """Raises RuntimeError, of the kind that `why_not` knows if only recording failed."""
        if self._failed is not None:
            raise RuntimeError(self._failed)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device):
            stream, current = self._unused_stream(), torch.cuda.current_stream()
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                for _ in range(_RUNS_BEFORE):
                    run()
            current.wait_stream(stream)
            try:
                # Of this thread alone: models for other cameras may be made ready on others meanwhile.
                with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                    outputs = run()
            except BaseException as error:
                # torch goes back to the former stream only from a capture that ended well.
                torch.cuda.set_stream(current)
                self._failed = str(error)
                raise
        self._live[stream.cuda_stream] = weakref.ref(graph)
        return graph.replay, outputs

    def _unused_stream(self) -> torch.cuda.Stream:
        """torch hands out 32 streams in turn; and a graph that is dropped takes with it the workspaces of its
        stream, also those of another graph that was captured on it."""
        for _ in range(_STREAMS):
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            graph = self._live.get(stream.cuda_stream)
            if graph is None or graph() is None:
                return stream
        raise RuntimeError("there are as many recordings as streams")


def why_not(error: RuntimeError) -> str | None:
    """In words, if this error says no more than that a call can't be recorded or stacked here: no memory for
    it, or a step that it doesn't take. None if the device failed.
    """
    if isinstance(error, torch.AcceleratorError) and getattr(error, "error_code", None) not in _NO_RECORDING:
        return None
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
