"""The teacher is the published network, frozen, and never opened unchecked."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine.errors import TeacherError
from engine.model import teacher as teacher_module
from engine.model.efficientnet import EfficientNetLite0, SameConv2d
from engine.model.resnet import ResNetTrunk
from engine.model.teacher import TEACHERS, Teacher, build_teacher


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return build_teacher("efficientnet_lite0")


def ramps(side: int = 64) -> torch.Tensor:
    line = torch.linspace(0, 1, side)
    planes = [line.expand(side, side), line.view(-1, 1).expand(side, side), torch.outer(line, line)]
    return torch.stack(planes)[None]


def test_features_are_those_of_the_published_network(
    teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values of timm's tf_efficientnet_lite0 with the same weights, at row 2, column 3 of each level.

    Ours agreed with it to the last bit on the whole network, which calls scikit-image's coffee an espresso
    (0.94) and its chelsea an Egyptian cat.
    """
    known = (
        [-6.35699, 20.01154, -1.39212, 1.44974],
        [-5.92634, -3.12001, -5.84490, -16.94329],
        [-2.18460, 5.00513, -0.41732, 0.43506],
    )
    with monkeypatch.context() as context:
        context.setattr(teacher_module, "_round", lambda trunk: None)
        exact = build_teacher("efficientnet_lite0")
    for level, rounded, wanted in zip(exact(ramps()), teacher(ramps()), known, strict=True):
        torch.testing.assert_close(level[0, :4, 2, 3], torch.tensor(wanted), atol=2e-3, rtol=1e-4)
        assert torch.cosine_similarity(level, rounded, dim=1).min() > 0.99


def test_a_device_that_computes_in_bfloat16_has_the_same_weights(teacher: Teacher) -> None:
    assert all(torch.equal(weight, weight.bfloat16().float()) for weight in teacher.parameters())


def test_levels_stand_at_strides_4_8_16(teacher: Teacher) -> None:
    shapes = [tuple(level.shape) for level in teacher(torch.rand(2, 3, 96, 64))]
    assert shapes == [(2, 24, 24, 16), (2, 40, 12, 8), (2, 112, 6, 4)]


def test_a_teacher_stays_frozen_in_training(teacher: Teacher) -> None:
    assert not teacher.train().training
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not teacher(torch.rand(1, 3, 32, 32))[0].requires_grad


def test_same_padding_puts_the_odd_pixel_right_and_below() -> None:
    conv = SameConv2d(1, 1, 3, 2, bias=False)
    torch.nn.init.ones_(conv.weight)
    picture = torch.zeros(1, 1, 4, 4)
    picture[0, 0, 3, 3] = 1.0
    assert conv(picture).tolist() == [[[[0.0, 0.0], [0.0, 1.0]]]]


def test_folding_keeps_the_function() -> None:
    torch.manual_seed(0)
    for trunk in (EfficientNetLite0(), ResNetTrunk((1, 1, 1), wide=False), ResNetTrunk((1, 1, 1), wide=True)):
        trunk(torch.rand(4, 3, 64, 64))  # gives the batch norms something to fold
        trunk.eval()
        images = torch.rand(1, 3, 64, 64)
        with torch.no_grad():
            before = trunk(images)
            trunk.fold()
            for a, b in zip(before, trunk(images), strict=True):
                torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


def test_an_unknown_pickle_is_never_opened(tmp_path: Path) -> None:
    strange = tmp_path / "strange.pth"
    strange.write_bytes(b"not a pickle, and nobody looks")
    with pytest.raises(TeacherError, match="not a known weight file"):
        build_teacher("efficientnet_lite0", strange)


def test_a_manifest_pins_its_teacher() -> None:
    with pytest.raises(TeacherError, match="not the teacher this model was trained with"):
        build_teacher("efficientnet_lite0", sha256="0" * 64)


def test_safetensors_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(TeacherError, match="does not hold the weights of resnet18"):
        build_teacher("resnet18", tmp_path / "x.safetensors")


def test_a_resnet_file_becomes_a_teacher(tmp_path: Path) -> None:
    trunk = ResNetTrunk((2, 2, 2), wide=False)
    path = tmp_path / "r18.safetensors"
    save_file(trunk.state_dict(), path)
    levels = build_teacher("resnet18", path)(torch.rand(1, 3, 64, 64))
    assert [level.shape[1] for level in levels] == list(TEACHERS["resnet18"].channels)


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="not installed; nothing is downloaded"):
        build_teacher("wide_resnet50_2")
    with pytest.raises(TeacherError, match="No such file"):
        build_teacher("resnet18", tmp_path / "none.pth")
    with pytest.raises(TeacherError, match="There is no teacher 'vgg'"):
        build_teacher("vgg")
