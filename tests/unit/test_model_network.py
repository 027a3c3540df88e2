"""The camera's network: shapes, decoupling, and the join that ends in one map."""

import pytest
import torch

from engine.errors import EngineError
from engine.model.cost import costs
from engine.model.dmdd import MAPS, PARTS, SIZES, CameraNetwork, build_network
from engine.model.teacher import TEACHERS


def features(size: str, batch: int, side: int) -> tuple[torch.Tensor, ...]:
    channels = TEACHERS[SIZES[size].teacher].channels
    return tuple(
        torch.randn(batch, c, side // s, side // s) for c, s in zip(channels, (4, 8, 16), strict=True)
    )


@pytest.fixture(scope="module")
def lite() -> CameraNetwork:
    torch.manual_seed(0)
    return build_network("lite").eval()


@pytest.mark.parametrize("size", ["lite", "r18"])
def test_every_size_gives_one_finite_map_at_the_pictures_size(size: str) -> None:
    network = build_network(size).eval()
    with torch.inference_mode():
        maps = network(torch.rand(2, 3, 64, 64), features(size, 2, 64))
    assert maps.shape == (2, 64, 64)
    assert maps.dtype == torch.float32
    assert torch.isfinite(maps).all()


def test_branches_have_the_teachers_shapes_and_equal_capacity(lite: CameraNetwork) -> None:
    normal, abnormal = lite.student(features("lite", 1, 64)[0])
    wanted = [level.shape for level in features("lite", 1, 64)]
    assert [n.shape for n in normal] == wanted
    assert [a.shape for a in abnormal] == wanted
    for head in lite.student.heads:
        assert sum(p.numel() for p in head.normal.parameters()) == sum(
            p.numel() for p in head.abnormal.parameters()
        )


def test_a_student_that_matches_its_teacher_leaves_no_distance(lite: CameraNetwork) -> None:
    teacher = list(features("lite", 1, 64))
    same = lite.evidence(teacher, [3.0 * t for t in teacher], [-t for t in teacher])
    assert same.maps.shape == (1, MAPS, 16, 16)
    torch.testing.assert_close(same.maps[:, :3], torch.zeros(1, 3, 16, 16), atol=1e-4, rtol=0)
    assert same.maps[:, 3:].min() > 0.1


def test_a_distance_counts_by_the_teachers_strength_at_the_cell() -> None:
    teacher = [torch.ones_like(level) for level in features("lite", 1, 64)]
    for level in teacher:
        level[:, :, 0, 0] *= 9.0
    network = build_network("lite")
    network.strength.copy_(torch.stack([level[0, :, 1, 1].norm() for level in teacher]))
    opposite = network.evidence(teacher, [-t for t in teacher], [-t for t in teacher])
    assert opposite.maps[0, :, 8, 8].tolist() == pytest.approx([2.0] * MAPS, abs=1e-4)
    assert opposite.maps[0, 0, 0, 0] == pytest.approx(6.0, abs=1e-4)


def test_the_join_counts_deviations_from_good() -> None:
    network = build_network("lite").eval()
    network.part_mean.fill_(2.0)
    network.part_std.fill_(0.5)
    network.part_weight.zero_()
    network.part_weight[-1] = 1.0
    joined = network.join(torch.full((1, PARTS, 8, 8), 3.0))
    torch.testing.assert_close(joined, torch.full((1, 8, 8), 2.0))


def test_the_whole_model_is_its_state_dict(lite: CameraNetwork) -> None:
    lite.part_mean.uniform_()
    twin = build_network("lite").eval()
    twin.load_state_dict(lite.state_dict())
    images, seen = torch.rand(1, 3, 64, 64), features("lite", 1, 64)
    with torch.inference_mode():
        torch.testing.assert_close(twin(images, seen), lite(images, seen))


def test_a_picture_is_judged_alone_whatever_shares_its_batch(lite: CameraNetwork) -> None:
    images, seen = torch.rand(3, 3, 64, 64), features("lite", 3, 64)
    with torch.inference_mode():
        together = lite(images, seen)[1]
        alone = lite(images[1:2], tuple(f[1:2] for f in seen))[0]
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_without_laterals_detail_reaches_no_level() -> None:
    """With the bottleneck, the pyramid is a function of the coarsest level alone."""
    pyramid = build_network("lite", "none").eval().student.pyramid
    widths = SIZES["lite"].student.encoder
    levels = [torch.rand(1, w, 16 >> i, 16 >> i) for i, w in enumerate(widths)]
    other = [torch.rand_like(level) for level in levels[:3]]
    for a, b in zip(pyramid(levels), pyramid([*other, levels[3]]), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("lateral", ["all", "gated"])
def test_with_laterals_it_does(lateral: str) -> None:
    pyramid = build_network("lite", lateral).eval().student.pyramid  # type: ignore[arg-type]
    levels = [torch.rand(1, w, 16 >> i, 16 >> i) for i, w in enumerate(SIZES["lite"].student.encoder)]
    changed = [torch.rand_like(levels[0]), *levels[1:]]
    assert not torch.allclose(pyramid(levels)[0], pyramid(changed)[0])


def test_an_unknown_size_is_named() -> None:
    with pytest.raises(EngineError, match="no model size 'tiny'; choose one of lite"):
        build_network("tiny")


def test_the_costs_are_those_counted_by_hand() -> None:
    """ResNet-18 to layer 3 at 256: 2.78 M parameters, 1.83 GMACs, as published; the sizes are in order."""
    r18 = costs("r18")["teacher"]
    assert r18.parameters_m == pytest.approx(2.78, abs=0.01)
    assert r18.gmacs == pytest.approx(1.83, abs=0.1)
    total = {size: sum(c.gmacs for c in costs(size).values()) for size in SIZES}
    assert total["lite"] < total["r18"] < total["wide-lite"] < total["wide"]
