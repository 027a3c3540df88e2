"""The join is set by held-out good pictures and by nothing else."""

import numpy as np
import pytest
import torch

from engine.model.dmdd import CameraNetwork, build_network
from engine.model.teacher import Teacher, build_teacher
from trainer.foreground import Foregrounds
from trainer.join import MIX, Joined, Mix, fit_join, parts_of
from trainer.synthesis import UNSEEN, Synthesis

CPU = torch.device("cpu")
HELD_OUT = np.random.default_rng(0).integers(60, 190, (4, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return build_teacher("efficientnet_lite0")


def fitted(teacher: Teacher, seed: int = 0) -> tuple[CameraNetwork, Joined]:
    torch.manual_seed(0)
    network = build_network("lite")
    everywhere = Foregrounds(None, "")
    return network, fit_join(network, teacher, HELD_OUT, everywhere, Synthesis(UNSEEN), CPU, seed)


def test_good_pictures_come_out_centred_and_every_part_counts_in_its_own_spread(teacher: Teacher) -> None:
    network, _ = fitted(teacher)
    parts = torch.cat(list(parts_of(network, teacher, HELD_OUT, CPU)))
    scaled = (parts - network.part_mean.view(1, -1, 1, 1)) / network.part_std.view(1, -1, 1, 1)
    torch.testing.assert_close(scaled.mean((0, 2, 3)), torch.zeros(7), atol=1e-3, rtol=0)
    torch.testing.assert_close(scaled.std((0, 2, 3)), torch.ones(7), atol=1e-2, rtol=0)


def test_synthetic_anomalies_are_measured_and_decide_nothing(teacher: Teacher) -> None:
    (network, joined), (other, elsewhere) = fitted(teacher), fitted(teacher, seed=1)
    assert joined == fitted(teacher)[1]
    assert 0 < joined.validation_ap != elsewhere.validation_ap
    torch.testing.assert_close(network.part_weight, MIX.weights())
    for name, buffer in network.named_buffers():
        assert torch.equal(buffer, other.get_buffer(name)), name


def test_the_shares_of_the_levels_add_up_to_the_branchs_weight() -> None:
    weights = Mix(normality=2, abnormality=3, head=5).weights()
    assert weights[:3].sum() == pytest.approx(2)
    assert weights[3:6].sum() == pytest.approx(3)
    assert weights[6] == 5
