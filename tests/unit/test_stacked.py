"""Networks stacked into one call answer as they do one by one; which stacks pay is decided by measurement."""

import gc
import math
import weakref

import pytest
import torch

from engine.backend import Prepared
from engine.stacked import Stack, Stacks
from engine.torch_backend import TorchBackend
from tests.models import tiny_artifact

SIDE = 64


@pytest.fixture(scope="module", params=[False, True], ids=["float32", "bf16"])
def backend(request: pytest.FixtureRequest) -> TorchBackend:
    return TorchBackend(torch.device("cpu"), bf16=request.param)


@pytest.fixture(scope="module")
def models(backend: TorchBackend) -> list[Prepared]:
    return [backend.prepare(tiny_artifact(real="lite", version=v, input_px=SIDE)) for v in (1, 2, 3)]


def one_by_one(backend: TorchBackend, order: list[Prepared], images: torch.Tensor) -> torch.Tensor:
    features = backend.features(order[0].teacher, images)
    return backend.raw_maps([(one, slice(k, k + 1)) for k, one in enumerate(order)], images, features)


def test_stacked_networks_answer_as_they_do_one_by_one(backend: TorchBackend, models: list[Prepared]) -> None:
    images = torch.rand(3, 3, SIDE, SIDE)
    features = backend.features(models[0].teacher, images)
    with torch.inference_mode():
        stack = Stack(models[0].network, 4)
        stack.load([model.network for model in models])
        [together] = stack(images, *features)
    assert together.shape == (3, SIDE, SIDE) and together.dtype == torch.float32
    tolerance = 0.03 if models[0].teacher.endswith("bf16") else 1e-4
    assert (together - one_by_one(backend, models, images)).abs().max() < tolerance


def test_slots_can_be_loaded_anew_and_hold_one_network_several_times(
    backend: TorchBackend, models: list[Prepared]
) -> None:
    one, two, three = models
    images = torch.rand(3, 3, SIDE, SIDE)
    features = backend.features(one.teacher, images)
    answers = []
    with torch.inference_mode():
        stack = Stack(one.network, 3)
        for order in ([one, two, three], [three, two, three], [two, two, one]):
            stack.load([model.network for model in order])
            answers.append((stack(images, *features)[0], one_by_one(backend, order, images)))
    tolerance = 0.03 if one.teacher.endswith("bf16") else 1e-4
    assert all((there - here).abs().max() < tolerance for there, here in answers)
    assert (answers[0][1] - answers[1][1]).abs().max() > 0.06


def test_only_what_a_slot_does_not_hold_is_copied(
    models: list[Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[int] = []
    copy = torch._foreach_copy_
    monkeypatch.setattr(torch, "_foreach_copy_", lambda into, of: (copied.append(len(into)), copy(into, of)))
    one, two, three = (model.network for model in models)
    stack = Stack(one, 2)
    # A call for each type of number.
    types = {tensor.dtype for tensor in (*one.parameters(), *one.buffers())}
    whole = len([*one.parameters(), *one.buffers()])
    found = []
    for order in ([one, two], [one, two], [one, three], [three, one]):
        copied.clear()
        stack.load(order)
        assert len(copied) in (0, len(types))
        found.append(sum(copied))
    assert found == [whole, 0, whole, 2 * whole]


def test_a_camera_never_gets_anothers_answer_after_a_copy_that_failed(
    backend: TorchBackend, models: list[Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, _ = models
    images = torch.rand(2, 3, SIDE, SIDE)
    features = backend.features(one.teacher, images)
    stack = Stack(one.network, 2)

    def fail(into: list[torch.Tensor], of: list[torch.Tensor]) -> None:
        into[0].copy_(of[0])
        raise torch.OutOfMemoryError("no memory left")

    with torch.inference_mode():
        with monkeypatch.context() as failing, pytest.raises(torch.OutOfMemoryError):
            failing.setattr(torch, "_foreach_copy_", fail)
            stack.load([two.network, two.network])
        for order in ([two, one], [one, two]):
            stack.load([model.network for model in order])
            apart = stack(images, *features)[0] - one_by_one(backend, order, images)
            assert apart.abs().max() < (0.03 if one.teacher.endswith("bf16") else 1e-4)


def test_what_is_copied_lies_in_a_slot_as_in_the_network(models: list[Prepared]) -> None:
    network = models[0].network
    stack = Stack(network, 2)
    tensors = [*network.parameters(), *network.buffers()]
    assert all(
        len({row.stride(), tensor.stride()}) == 1 for row, tensor in zip(stack._rows[1], tensors, strict=True)
    )


def test_a_stack_keeps_no_network_alive(backend: TorchBackend) -> None:
    made = [backend.prepare(tiny_artifact(real="lite", version=v, input_px=SIDE)) for v in (1, 2)]
    stack = Stack(made[0].network, 2)
    stack.load([one.network for one in made])
    gone = [weakref.ref(one.network) for one in made]
    del made
    gc.collect()
    assert [one() for one in gone] == [None, None]


def test_what_was_not_faster_by_a_tenth_is_not_stacked() -> None:
    stacks = Stacks()
    assert not stacks.judge("lite", 4, alone_s=1.0, stacked_s=0.95, apart=0.0)
    assert stacks.slots_for("lite", 4, 4) is None and str(stacks) == "one by one"
    assert stacks.knows("lite", 4) and not stacks.knows("lite", 2)


@pytest.mark.parametrize("apart", [0.5, float("nan"), math.inf])
def test_what_answers_otherwise_is_not_stacked_however_fast(apart: float) -> None:
    stacks = Stacks()
    assert not stacks.judge("lite", 4, alone_s=1.0, stacked_s=0.1, apart=apart)
    assert stacks.slots_for("lite", 4, 4) is None


def test_the_stack_that_costs_least_is_taken_in_turns_if_need_be() -> None:
    stacks = Stacks()
    stacks.judge("lite", 2, alone_s=2.0, stacked_s=1.0, apart=0.0)
    stacks.judge("lite", 8, alone_s=8.0, stacked_s=1.5, apart=0.0)
    found = {count: stacks.slots_for("lite", count, count) for count in (1, 2, 3, 8, 17)}
    # One alone takes 1.0, no more than any stack. Three: 1.5 in eight slots, 2.0 in two turns of two.
    assert found == {1: None, 2: 2, 3: 8, 8: 8, 17: 8}
    assert stacks.slots_for("r18", 8, 8) is None
    assert str(stacks) == "stacked at 2, 8"


def test_many_pictures_of_few_cameras_are_no_reason_to_stack() -> None:
    stacks = Stacks()
    stacks.judge("lite", 8, alone_s=8.0, stacked_s=2.0, apart=0.0)
    assert stacks.slots_for("lite", pictures=8, networks=3) == 8
    assert stacks.slots_for("lite", pictures=8, networks=2) is None
