"""The losses pull where the method says they do."""

import torch

from trainer import losses


def test_normality_is_zero_for_a_student_that_points_as_its_teacher() -> None:
    teacher = [torch.randn(2, 4, 8, 8)]
    assert float(losses.normality([5 * teacher[0]], teacher)) < 1e-5
    assert float(losses.normality([-teacher[0]], teacher)) > 2.9


def test_abnormality_wants_distance_inside_the_mask_only() -> None:
    teacher = torch.randn(1, 4, 8, 8)
    mask = torch.zeros(1, 1, 32, 32)
    mask[:, :, :, 16:] = 1.0
    opposite_inside = teacher.clone()
    opposite_inside[:, :, :, 4:] *= -1
    assert float(losses.abnormality([opposite_inside], [teacher], mask)) < 1e-5
    assert float(losses.abnormality([teacher], [teacher], mask)) > 0.49
    assert float(losses.abnormality([-teacher], [teacher], mask)) > 0.49


def test_a_cell_half_covered_wants_half_the_distance() -> None:
    teacher = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    half = torch.zeros(1, 1, 4, 4)
    half[:, :, :2] = 1.0
    at_half = torch.tensor([0.5, 3**0.5 / 2]).view(1, 2, 1, 1)
    assert float(losses.abnormality([at_half], [teacher], half)) < 1e-6
    assert float(losses.abnormality([at_half], [teacher], half, soft=False)) > 0.2


def test_without_anomalous_cells_the_clean_half_remains() -> None:
    teacher = torch.randn(1, 4, 8, 8)
    assert float(losses.abnormality([-teacher], [teacher], torch.zeros(1, 1, 32, 32))) > 0.49


def test_thin_masks_still_count_in_the_segmentation() -> None:
    mask = torch.zeros(1, 1, 64, 64)
    mask[:, :, :, 30] = 1.0  # one pixel wide: a quarter of each cell it crosses
    low, high = torch.full((1, 1, 16, 16), -6.0), torch.full((1, 1, 16, 16), -6.0)
    high[:, :, :, 7] = 6.0
    assert float(losses.segmentation(high, mask)) < float(losses.segmentation(low, mask))
