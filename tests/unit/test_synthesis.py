"""Synthetic anomalies lie where the mask says, on the part, and come again under the same seed."""

import numpy as np
import pytest

from trainer import foreground, synthesis
from trainer.foreground import find_foregrounds, grabcut, stability
from trainer.synthesis import TRAINING, UNSEEN, Synthesis, perlin

SIDE = 64


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def part(shift: int = 0) -> np.ndarray:
    """A bright disc on a dark ground, with grain."""
    y, x = np.mgrid[:128, :128]
    disc = (y - 64) ** 2 + (x - 64 - shift) ** 2 < 40**2
    grain = np.random.default_rng(shift).integers(0, 12, (128, 128, 3))
    return (np.where(disc[:, :, None], 190, 25) + grain).astype(np.uint8)


EVERYWHERE = np.ones((SIDE, SIDE), dtype=np.bool_)


@pytest.mark.parametrize("texture", [*TRAINING, *UNSEEN])
def test_every_texture_fits_the_picture(texture: synthesis.Texture) -> None:
    out = texture(picture(), np.random.default_rng(1))
    assert out.shape == (SIDE, SIDE, 3)
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert -1 <= out.min() <= out.max() <= 256


def test_pixels_change_only_in_and_right_beside_the_mask() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        image, mask = Synthesis().draw(picture(), EVERYWHERE, rng)
        near = synthesis.cv2.dilate(mask.astype(np.uint8), np.ones((13, 13), np.uint8)) > 0
        assert (image == picture())[~near].all()


def test_anomalies_stay_on_the_part() -> None:
    half = EVERYWHERE.copy()
    half[:, SIDE // 2 :] = False
    for seed in range(20):
        _, mask = Synthesis().draw(picture(), half, np.random.default_rng(seed))
        assert not (mask & ~half).any()


def test_no_part_no_anomaly() -> None:
    image, mask = Synthesis().draw(picture(), ~EVERYWHERE, np.random.default_rng(0))
    assert not mask.any()
    assert np.array_equal(image, picture())


def test_the_same_seed_draws_the_same_anomaly() -> None:
    first, second = (Synthesis().draw(picture(), EVERYWHERE, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])


def test_a_share_of_the_masks_is_thin_and_a_share_small() -> None:
    areas = {
        name: np.mean([draw(256, np.random.default_rng(s)).mean() for s in range(40)])
        for name, draw in (
            ("thin", synthesis.scratches),
            ("small", synthesis.specks),
            ("any", synthesis.blotches),
        )
    }
    assert areas["thin"] < 0.02
    assert areas["small"] < 0.02
    assert areas["any"] > 0.03


def test_perlin_noise_is_zero_on_its_grid_and_bounded() -> None:
    noise = perlin(SIDE, (4, 8), np.random.default_rng(0))
    assert noise.shape == (SIDE, SIDE)
    np.testing.assert_allclose(noise[::16, ::8], 0.0, atol=1e-6)
    assert np.abs(noise).max() <= 1.0 + 1e-6
    assert noise.std() > 0.1


def test_held_out_textures_are_not_trained_on() -> None:
    assert not set(TRAINING) & set(UNSEEN)


def test_grabcut_finds_a_disc() -> None:
    mask = grabcut(part())
    assert mask[64, 64]
    assert not mask[5, 5]
    assert 0.2 < mask.mean() < 0.45


def test_a_stable_foreground_is_used_and_an_unstable_one_is_not() -> None:
    parts = np.stack([part(shift) for shift in range(4)])
    assert stability(parts) > 0.9
    assert find_foregrounds(parts).masks is not None
    noise = np.stack(
        [np.random.default_rng(s).integers(0, 256, (128, 128, 3), dtype=np.uint8) for s in range(4)]
    )
    assert find_foregrounds(noise).masks is None
    assert find_foregrounds(parts, "off").masks is None


def test_where_grabcut_is_unstable_two_clear_levels_of_grey_are_the_foreground(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(foreground, "stability", lambda pixels: 0.0)
    for parts in (np.stack([part(shift) for shift in range(4)]), 255 - np.stack([part(s) for s in range(4)])):
        found = find_foregrounds(parts)
        assert found.masks is not None and found.mode == "otsu" and found.why.startswith("Otsu")
        assert found.masks[0, 64, 64] and not found.masks[0, 5, 5]
        assert np.array_equal(find_foregrounds(parts, found.mode).masks, found.masks)
    half = np.zeros((4, 128, 128, 3), np.uint8)
    half[:, :, 64:] = 200  # two levels, but each holds the rim
    assert find_foregrounds(half).masks is None
    assert find_foregrounds(np.zeros_like(half)).masks is None
