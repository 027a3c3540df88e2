"""Pictures of several cameras together in torch: what warming up settles, and recorded calls."""

import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from engine import together
from engine.backend import Prepared
from engine.core import Batch, Frame
from engine.library import CameraTuning, Library
from engine.recorded import Recorded, Replay, Tensors
from engine.runner import Runner
from engine.torch_backend import TorchBackend
from tests.fake_device import Waits
from tests.models import bright_spot, tiny_artifact

SIDE = 64
CPU = torch.device("cpu")


class Capture:
    """Replays on the host what a graph replays on a device: into the same memory, from the same memory."""

    def __init__(self) -> None:
        self.captured: list[tuple[int, ...]] = []
        self.replays = 0

    def __call__(self, run: Callable[[], Tensors]) -> tuple[Replay, Tensors]:
        outputs = run()
        self.captured.append(tuple(len(output) for output in outputs))

        def replay() -> None:
            self.replays += 1
            for output, fresh in zip(outputs, run(), strict=True):
                output.copy_(fresh)

        return replay, outputs


def adder(one: Tensor, other: Tensor) -> Tensors:
    return (one + other,)


def test_a_recording_serves_fewer_pictures_and_gives_what_is_the_callers_own() -> None:
    recorded = Recorded(adder, [torch.ones(4, 2), torch.ones(4, 2)], Capture())
    [two] = recorded(torch.full((2, 2), 3.0), torch.full((2, 2), 4.0))
    [four] = recorded(torch.zeros(4, 2), torch.ones(4, 2))
    assert two.tolist() == [[7.0, 7.0]] * 2 and four.tolist() == [[1.0, 1.0]] * 4


def test_a_recording_leaves_what_it_was_given_alone() -> None:
    shown = torch.ones(2, 2)
    recorded = Recorded(adder, [shown, shown], Capture())
    recorded(torch.zeros(2, 2), torch.zeros(2, 2))
    assert shown.tolist() == [[1.0, 1.0]] * 2


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried later counts as faster, so that a recording or a stack is taken where it may be."""
    seconds = iter([0.1**times for times in range(100)])

    def quickest_s(call: Callable[[], object], device: torch.device, times: int) -> float:
        call()
        return next(seconds)

    monkeypatch.setattr(together, "quickest_s", quickest_s)


def prepared(backend: TorchBackend, *versions: int) -> list[Prepared]:
    return [backend.prepare(tiny_artifact(real="lite", version=v, input_px=SIDE)) for v in versions]


def seen(backend: TorchBackend, networks: list[tuple[Prepared, slice]], images: Tensor) -> Tensor:
    return backend.raw_maps(networks, images, backend.features(networks[0][0].teacher, images))


def spread(models: list[Prepared], each: tuple[int, ...]) -> list[tuple[Prepared, slice]]:
    """Model k looks at each[k] pictures."""
    ends = [sum(each[: k + 1]) for k in range(len(each))]
    return [(model, slice(end - n, end)) for model, end, n in zip(models, ends, each, strict=True)]


@pytest.mark.parametrize(
    ("bf16", "each"),
    [(False, (1,)), (False, (1, 1, 1)), (False, (2, 1)), (True, (3, 2, 1)), (False, (4, 4, 1))],
)
def test_recorded_and_stacked_cameras_see_what_they_see_alone(
    fast: None, bf16: bool, each: tuple[int, ...]
) -> None:
    capture = Capture()
    backend = TorchBackend(CPU, bf16=bf16, capture=capture)
    models = prepared(backend, 1, 2, 3)[: len(each)]
    networks, images = spread(models, each), torch.rand(sum(each), 3, SIDE, SIDE)
    plain = seen(backend, networks, images)
    backend.settle(networks, images, 4)
    # The teacher for 1, 2 and 4 pictures, with three levels; networks likewise, one map each.
    assert capture.captured == [(1,) * 3, (2,) * 3, (4,) * 3, (1,), (2,), (4,)]
    assert backend.together == "stacked at 1, 2, 4, recorded"
    before = capture.replays
    together = seen(backend, networks, images)
    assert capture.replays > before
    assert together.shape == plain.shape and (together - plain).abs().max() < (0.05 if bf16 else 1e-3)
    # And again with others, into the same memory: what came out before is the caller's own.
    seen(backend, networks, images.flip(0))
    assert (together - plain).abs().max() < (0.05 if bf16 else 1e-3)


def test_what_is_settled_once_is_not_measured_again(fast: None) -> None:
    capture = Capture()
    backend = TorchBackend(CPU, bf16=False, capture=capture)
    networks, images = spread(prepared(backend, 1, 2), (1, 1)), torch.rand(2, 3, SIDE, SIDE)
    backend.settle(networks, images, 2)
    count = len(capture.captured)
    backend.settle(networks, images, 2)
    assert len(capture.captured) == count == 4


class Dark(nn.Module):
    """Another form, that can't be stacked."""

    def forward(self, images: Tensor, features: Tensors) -> Tensor:
        return images.new_zeros((len(images), SIDE, SIDE))


def test_networks_of_another_form_run_by_themselves_and_the_rest_stacked(fast: None) -> None:
    capture = Capture()
    backend = TorchBackend(CPU, bf16=False, capture=capture)
    one, two = prepared(backend, 1, 2)
    dark = Prepared(one.teacher, Dark())
    networks, images = spread([dark, one, dark, two], (1, 2, 1, 1)), torch.rand(5, 3, SIDE, SIDE)
    plain = seen(backend, networks, images)
    backend.settle(networks, images, 4)
    assert backend.together == "stacked at 1, 2, 4, recorded"
    before = capture.replays
    with Waits() as waits:
        maps = seen(backend, networks, images)
    assert capture.replays > before
    assert (maps - plain).abs().max() < 1e-3 and waits.seen == []
    assert [float(map_.abs().max()) > 0.0 for map_ in maps] == [False, True, True, False, True]


def refuse(error: Exception) -> Callable[[Callable[[], Tensors]], tuple[Replay, Tensors]]:
    def capture(run: Callable[[], Tensors]) -> tuple[Replay, Tensors]:
        raise error

    return capture


def of_the_device(code: int) -> torch.AcceleratorError:
    error = torch.AcceleratorError("CUDA error")
    error.error_code = code
    return error


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("no memory"), RuntimeError("no rule"), of_the_device(901), of_the_device(2)],
)
def test_what_can_not_be_recorded_runs_as_it_is(fast: None, error: Exception) -> None:
    backend = TorchBackend(CPU, bf16=False, capture=refuse(error))
    networks, images = spread(prepared(backend, 1, 2), (1, 1)), torch.rand(2, 3, SIDE, SIDE)
    plain = seen(backend, networks, images)
    backend.settle(networks, images, 2)
    assert backend.together == f"stacked at 1, 2, not recorded: {error}"
    assert (seen(backend, networks, images) - plain).abs().max() < 1e-3


def test_a_device_that_fails_while_recording_is_said_to_have_failed() -> None:
    backend = TorchBackend(CPU, bf16=False, capture=refuse(of_the_device(719)))
    networks, images = spread(prepared(backend, 1, 2), (1, 1)), torch.rand(2, 3, SIDE, SIDE)
    with pytest.raises(torch.AcceleratorError):
        backend.settle(networks, images, 2)


def test_networks_that_can_not_be_stacked_run_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_stack(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(together, "Stack", no_stack)
    backend = TorchBackend(CPU, bf16=False, capture=Capture())
    networks, images = spread(prepared(backend, 1, 2), (1, 1)), torch.rand(2, 3, SIDE, SIDE)
    plain = seen(backend, networks, images)
    backend.settle(networks, images, 2)
    assert backend.together.startswith("one by one")
    assert (seen(backend, networks, images) - plain).abs().max() < 1e-3


def stuck(run: Callable[[], Tensors]) -> tuple[Replay, Tensors]:
    """A recording that gives the pictures of the time it was made for ever."""
    return (lambda: None), run()


def test_a_recording_that_does_not_look_at_its_input_is_refused(fast: None) -> None:
    backend = TorchBackend(CPU, bf16=False, capture=stuck)
    networks, images = spread(prepared(backend, 1, 2), (1, 1)), torch.rand(2, 3, SIDE, SIDE)
    plain = seen(backend, networks, images)
    backend.settle(networks, images, 2)
    assert backend.together == "one by one"
    assert (seen(backend, networks, images) - plain).abs().max() < 1e-3


def test_on_a_cpu_two_are_tried_and_nothing_is_recorded() -> None:
    backend = TorchBackend(CPU, bf16=False)
    tried: list[int] = []
    backend._together._stacks.judge = lambda form, slots, *_: bool(tried.append(slots))  # type: ignore[method-assign, func-returns-value]
    models, images = prepared(backend, 1, 2, 3), torch.rand(3, 3, SIDE, SIDE)
    backend.settle(spread(models[:1], (1,)), images[:1], 16)
    assert tried == []
    backend.settle(spread(models, (1, 1, 1)), images, 16)
    assert tried == [2] and "recorded" not in backend.together


def test_a_runner_that_is_warm_sees_the_same(fast: None) -> None:
    backend = TorchBackend(CPU, bf16=False, capture=Capture())
    runner = Runner(Library(), backend=backend, max_squares=4)
    frames = [Frame(name, 1, 0.0, time.monotonic(), bright_spot()) for name in ("b", "a")]
    for version, frame in enumerate(frames, start=1):
        artifact = tiny_artifact(real="lite", version=version, input_px=SIDE)
        runner.library.put(frame.camera, artifact, CameraTuning(min_area_px=1.0))
    plain = runner.run(Batch(tuple(frames)))
    assert runner.warm_up(max_batch=4) == []
    assert backend.together == "stacked at 1, 2, 4, recorded"
    stacked = runner.run(Batch(tuple(reversed(frames))))
    for one, other in zip(plain, reversed(stacked), strict=True):
        assert one.frame is other.frame and other.score == pytest.approx(one.score, abs=1e-3)


def test_the_first_model_that_comes_to_a_line_without_any_is_recorded_and_stacked(fast: None) -> None:
    """It waited for the next start before, and so did all that came after it."""
    backend = TorchBackend(CPU, bf16=False, capture=Capture())
    runner = Runner(Library(), backend=backend, max_squares=4)
    assert runner.warm_up(max_batch=4) == [] and backend.together == "one by one"
    frames = [Frame(name, 1, 0.0, time.monotonic(), bright_spot()) for name in ("b", "a")]
    artifact = tiny_artifact(real="lite", version=1, input_px=SIDE)
    runner.library.put("b", artifact, CameraTuning(min_area_px=1.0))
    runner.run(Batch((frames[0],)))
    assert backend.together == "stacked at 1, 2, 4, recorded"
    runner.library.put("a", artifact, CameraTuning(min_area_px=1.0))
    assert len(runner.run(Batch(tuple(frames)))) == 2


def test_as_many_as_a_batch_takes_are_settled_also_where_that_is_no_power_of_two(fast: None) -> None:
    capture = Capture()
    backend = TorchBackend(CPU, bf16=False, capture=capture)
    backend.settle(spread(prepared(backend, 1), (1,)), torch.rand(1, 3, SIDE, SIDE), 3)
    assert backend.together == "stacked at 1, 2, 3, recorded"


def test_a_camera_that_comes_later_joins_those_that_were_settled(fast: None) -> None:
    backend = TorchBackend(CPU, bf16=False, capture=Capture())
    models, images = prepared(backend, 1, 2, 3), torch.rand(3, 3, SIDE, SIDE)
    plain = seen(backend, spread(models, (1, 1, 1)), images)
    backend.settle(spread(models[:1], (1,)), images[:1], 4)
    assert (seen(backend, spread(models, (1, 1, 1)), images) - plain).abs().max() < 1e-3
