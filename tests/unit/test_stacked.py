"""Networks stacked into one call answer as they do one by one, and are stacked only where that is faster."""

import time

import pytest
import torch
from torch import nn

from engine.backend import Prepared
from engine.core import Batch, Frame
from engine.library import CameraTuning, Library
from engine.runner import Runner
from engine.stacked import Stack, Stacks
from engine.torch_backend import TorchBackend
from tests.models import bright_spot, tiny_artifact

SIDE = 64
Networks = list[tuple[Prepared, slice]]


@pytest.fixture(scope="module", params=[False, True], ids=["float32", "bf16"])
def backend(request: pytest.FixtureRequest) -> TorchBackend:
    return TorchBackend(torch.device("cpu"), bf16=request.param)


@pytest.fixture(scope="module")
def networks(backend: TorchBackend) -> Networks:
    made = [backend.prepare(tiny_artifact(real="lite", version=v, input_px=SIDE)) for v in (1, 2, 3)]
    return [(prepared, slice(2 * k, 2 * k + 2)) for k, prepared in enumerate(made)]


def test_stacked_networks_answer_as_they_do_one_by_one(backend: TorchBackend, networks: Networks) -> None:
    images = torch.rand(6, 3, SIDE, SIDE)
    features = backend.features(networks[0][0].teacher, images)
    dtype = torch.bfloat16 if networks[0][0].teacher.endswith("bf16") else torch.float32
    stack = Stack(tuple(prepared.network for prepared, _ in networks), dtype)
    with torch.inference_mode():
        together = stack(images, features).float()
    one_by_one = backend.raw_maps(networks, images, features)
    assert together.shape == one_by_one.shape == (6, SIDE, SIDE)
    assert (together - one_by_one).abs().max() < (1e-4 if dtype == torch.float32 else 0.05)
    assert (one_by_one[0] - one_by_one[2]).abs().max() > 1e-3


def test_networks_of_different_form_run_one_by_one(backend: TorchBackend, networks: Networks) -> None:
    first, second = networks[0][0], networks[1][0]
    stranger = Prepared(first.teacher, nn.Identity())
    assert backend._form_of([(first, slice(0, 1)), (second, slice(1, 2))]) is not None
    assert backend._form_of([(first, slice(0, 1)), (second, slice(1, 3))]) is None
    assert backend._form_of([(first, slice(0, 1)), (stranger, slice(1, 2))]) is None


MEMBERS = tuple(nn.Conv2d(1, 1, 1) for _ in range(4))


def asked(stacks: Stacks, members: tuple[nn.Module, ...], times: int = 3) -> list[bool]:
    """Whether a stack was found, each time that these networks come together."""
    return [stacks.find("lite", members, torch.float32) is not None for _ in range(times)]


def test_what_was_not_faster_is_not_stacked() -> None:
    stacks = Stacks()
    stacks.judge("lite", 4, alone_s=1.0, stacked_s=0.95, apart=0.0)
    assert asked(stacks, MEMBERS) == [False] * 3 and str(stacks) == "one by one"


@pytest.mark.parametrize("apart", [0.5, float("nan")])
def test_what_answers_otherwise_is_not_stacked_however_fast(apart: float) -> None:
    stacks = Stacks()
    stacks.judge("lite", 4, alone_s=1.0, stacked_s=0.1, apart=apart)
    assert asked(stacks, MEMBERS) == [False] * 3


def test_a_stack_is_made_when_the_same_networks_come_again_and_then_kept() -> None:
    stacks = Stacks()
    stacks.judge("lite", 2, alone_s=1.0, stacked_s=0.5, apart=0.0)
    assert asked(stacks, MEMBERS) == [False, True, True]
    assert stacks.find("lite", MEMBERS, torch.float32) is stacks.find("lite", MEMBERS, torch.float32)
    assert stacks.find("r18", MEMBERS, torch.float32) is None
    assert str(stacks) == "stacked at 2"


def test_the_largest_number_that_was_tried_and_is_not_above_decides() -> None:
    stacks = Stacks()
    stacks.judge("lite", 2, alone_s=1.0, stacked_s=2.0, apart=0.0)
    stacks.judge("lite", 4, alone_s=1.0, stacked_s=0.5, apart=0.0)
    assert asked(stacks, MEMBERS[:3]) == [False] * 3
    assert asked(stacks, MEMBERS) == [False, True, True]


def test_only_a_few_stacks_are_kept() -> None:
    stacks = Stacks()
    stacks.judge("lite", 1, alone_s=1.0, stacked_s=0.5, apart=0.0)
    for first in MEMBERS:
        for second in MEMBERS:
            asked(stacks, (first, second))
    assert len(stacks._kept) == 4


def test_warming_up_measures_and_a_runner_with_stacks_sees_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = TorchBackend(torch.device("cpu"), bf16=False)
    runner = Runner(Library(), backend=backend)
    frames = [Frame(name, 1, 0.0, time.monotonic(), bright_spot()) for name in ("b", "a")]
    for version, frame in enumerate(frames, start=1):
        artifact = tiny_artifact(real="lite", version=version, input_px=SIDE)
        runner.library.put(frame.camera, artifact, CameraTuning(min_area_px=1.0))
    plain = runner.run(Batch(tuple(frames)))
    judged: list[tuple[int, float]] = []

    def judge(form: str, count: int, alone_s: float, stacked_s: float, apart: float) -> None:
        judged.append((count, apart))
        backend._stacks._wins[form, count] = True

    monkeypatch.setattr(backend._stacks, "judge", judge)
    runner.warm_up(max_batch=1)
    assert judged == []
    runner.warm_up(max_batch=4)
    assert [count for count, _ in judged] == [2] and judged[0][1] < 1e-3
    assert backend.together == "stacked at 2"
    runner.run(Batch(tuple(frames)))
    stacked = runner.run(Batch(tuple(reversed(frames))))
    assert any(stack is not None for stack in backend._stacks._kept.values())
    for one, other in zip(plain, reversed(stacked), strict=True):
        assert one.frame is other.frame and other.score == pytest.approx(one.score, abs=1e-3)


def test_networks_that_can_not_be_stacked_run_one_by_one(
    backend: TorchBackend, networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("vmap: no rule for this")

    monkeypatch.setattr("engine.torch_backend.Stack", refuse)
    images = torch.rand(4, 3, SIDE, SIDE)
    features = backend.features(networks[0][0].teacher, images)
    backend.settle(networks[:2], images, features)
    assert backend.together == "one by one"


def test_without_memory_for_a_stack_nothing_is_stacked_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("engine.stacked.Stack", exhausted)
    stacks = Stacks()
    stacks.judge("lite", 2, alone_s=1.0, stacked_s=0.5, apart=0.0)
    assert asked(stacks, MEMBERS) == [False] * 3 and str(stacks) == "one by one"
