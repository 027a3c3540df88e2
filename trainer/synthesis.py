"""Synthetic anomalies: a mask on the part, a texture from somewhere, blended with opacity.

After DMDD's foreground-aware synthesis: I_a = I_n * (1 - M) + (1 - beta) * D * M + beta * I_n * M. Perlin
noise masks after Perlin (1985) as DRAEM uses them. The small and thin masks, the soft rim and the texture
sources that need no data set are ours: real defects are small, thin and of low contrast.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.images import Pixels

from .foreground import Mask

Rng = np.random.Generator
Floats = NDArray[np.float32]
Texture = Callable[[Pixels, Rng], Floats]

_MIN_AREA_PX = 16
_REDRAWS = 10
_MAX_BETA = 0.8


# Masks, (P, P) bool.


def perlin(size_px: int, cells: tuple[int, int], rng: Rng) -> Floats:
    """Gradient noise (P, P), about -1..1, with `cells` grid cells down and across; quintic fade."""
    rows, columns = cells
    angles = rng.uniform(0, 2 * np.pi, (rows + 1, columns + 1))
    down, across = np.sin(angles), np.cos(angles)
    y = np.linspace(0, rows, size_px, endpoint=False)
    x = np.linspace(0, columns, size_px, endpoint=False)
    y0, x0 = y.astype(int), x.astype(int)
    dy, dx = (y - y0)[:, None], (x - x0)[None, :]
    corners = {}
    for i in (0, 1):
        for j in (0, 1):
            # Columns first, of the few rows there are: both axes at once take three times as long.
            along_y, along_x = down[:, x0 + j][y0 + i], across[:, x0 + j][y0 + i]
            corners[i, j] = along_y * (dy - i) + along_x * (dx - j)
    fade_y, fade_x = _fade(dy), _fade(dx)
    top = corners[0, 0] + fade_x * (corners[0, 1] - corners[0, 0])
    bottom = corners[1, 0] + fade_x * (corners[1, 1] - corners[1, 0])
    return np.asarray((top + fade_y * (bottom - top)) * np.sqrt(2), dtype=np.float32)


def blotches(size_px: int, rng: Rng) -> Mask:
    """Perlin noise, turned by up to 90 degrees, above one half: patches of every size."""
    cells = (2 ** int(rng.integers(0, 6)), 2 ** int(rng.integers(0, 6)))
    noise = _turn(perlin(size_px, cells, rng), rng.uniform(-90, 90))
    return np.asarray(noise > 0.5, dtype=np.bool_)


def specks(size_px: int, rng: Rng) -> Mask:
    """One to four small spots of uneven outline, 2 to 14 px in radius at 256."""
    mask = np.zeros((size_px, size_px), dtype=np.uint8)
    scale = size_px / 256
    for _ in range(int(rng.integers(1, 5))):
        centre = rng.uniform(0, size_px, 2)
        radius = np.exp(rng.uniform(np.log(2), np.log(14))) * scale
        turns = np.sort(rng.uniform(0, 2 * np.pi, 9))
        stretch = np.array([1.0, rng.uniform(0.4, 1.0)])
        spokes = (
            radius * rng.uniform(0.6, 1.3, (9, 1)) * np.stack([np.cos(turns), np.sin(turns)], 1) * stretch
        )
        cv2.fillPoly(mask, [np.round(centre + spokes).astype(np.int32)], 1)
    return mask.astype(np.bool_)


def scratches(size_px: int, rng: Rng) -> Mask:
    """One or two thin wandering lines, 1 to 4 px wide at 256."""
    mask = np.zeros((size_px, size_px), dtype=np.uint8)
    scale = size_px / 256
    for _ in range(int(rng.integers(1, 3))):
        steps = int(rng.integers(4, 16))
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, rng.uniform(0.05, 0.6), steps))
        stride = rng.uniform(4, 14) * scale
        moves = stride * np.stack([np.cos(heading), np.sin(heading)], 1)
        points = rng.uniform(0, size_px, 2) + np.cumsum(moves, axis=0)
        width = max(1, round(rng.uniform(1, 4) * scale))
        cv2.polylines(mask, [np.round(points).astype(np.int32)], False, 1, width)
    return mask.astype(np.bool_)


# Textures: pictures the size of the part's, float32 0..255.


def shuffled(picture: Pixels, rng: Rng) -> Floats:
    """The picture itself, cut into 8 x 8 patches and dealt out anew, with shifted colours."""
    size = picture.shape[0] // 8
    grid = (
        picture[: size * 8, : size * 8].reshape(8, size, 8, size, 3).swapaxes(1, 2).reshape(64, size, size, 3)
    )
    dealt = (
        grid[rng.permutation(64)].reshape(8, 8, size, size, 3).swapaxes(1, 2).reshape(size * 8, size * 8, 3)
    )
    return _recolour(_fit(dealt, picture.shape[0]), rng)


def moved(picture: Pixels, rng: Rng) -> Floats:
    """The picture itself, shifted and turned: right material, wrong place."""
    size = picture.shape[0]
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), rng.uniform(-180, 180), rng.uniform(0.8, 1.3))
    matrix[:, 2] += rng.uniform(-0.4, 0.4, 2) * size
    out = cv2.warpAffine(picture, matrix, (size, size), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(out, dtype=np.float32)


def noise(picture: Pixels, rng: Rng) -> Floats:
    """Fractal noise between two random colours."""
    size = picture.shape[0]
    start = int(rng.integers(1, 6))
    layers = [perlin(size, (2**k, 2**k), rng) / 2 ** (k - start) for k in range(start, min(start + 3, 7))]
    weight = _unit(np.sum(layers, axis=0))[:, :, None]
    first, second = rng.uniform(0, 255, (2, 3))
    return np.asarray(first * weight + second * (1 - weight), dtype=np.float32)


def stain(picture: Pixels, rng: Rng) -> Floats:
    """The picture darker, lighter or tinted: low contrast, structure kept."""
    gain = np.exp(rng.uniform(0.15, 0.9) * rng.choice([-1, 1]))
    tint = np.exp(rng.normal(0, 0.15, 3))
    return np.asarray(np.clip(picture * (gain * tint), 0, 255), dtype=np.float32)


def flat(picture: Pixels, rng: Rng) -> Floats:
    """One colour with a little grain: holes, drops, glare, threads."""
    grey = rng.uniform(0, 255)
    colour = np.clip(grey + rng.normal(0, 30, 3), 0, 255)
    grain = rng.normal(0, rng.uniform(0, 12), picture.shape)
    return np.clip(colour + grain, 0, 255).astype(np.float32)


def smeared(picture: Pixels, rng: Rng) -> Floats:
    """The picture drawn out along one direction. Held out from training: it measures the unknown."""
    length = int(rng.integers(7, 25))
    kernel = np.zeros((length, length), dtype=np.float32)
    kernel[length // 2] = 1.0 / length
    matrix = cv2.getRotationMatrix2D((length / 2 - 0.5, length / 2 - 0.5), rng.uniform(0, 180), 1.0)
    turned = cv2.warpAffine(kernel, matrix, (length, length))
    return np.asarray(cv2.filter2D(picture, cv2.CV_32F, turned / max(turned.sum(), 1e-6)), dtype=np.float32)


def warped(picture: Pixels, rng: Rng) -> Floats:
    """The picture pushed about by smooth noise: dents and bends. Held out from training."""
    size = picture.shape[0]
    cells = 2 ** int(rng.integers(2, 5))
    push = rng.uniform(6, 16) * size / 256
    x, y = np.meshgrid(np.arange(size, dtype=np.float32), np.arange(size, dtype=np.float32))
    dx, dy = perlin(size, (cells, cells), rng) * push, perlin(size, (cells, cells), rng) * push
    out = cv2.remap(picture, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(out, dtype=np.float32)


def woven(picture: Pixels, rng: Rng) -> Floats:
    """Stripes or checks in two colours. Held out from training."""
    size = picture.shape[0]
    turn, period = rng.uniform(0, np.pi), rng.uniform(4, 24)
    y, x = np.mgrid[:size, :size]
    wave = np.sin((x * np.cos(turn) + y * np.sin(turn)) * 2 * np.pi / period)
    if rng.random() < 0.5:
        wave = wave * np.sin((y * np.cos(turn) - x * np.sin(turn)) * 2 * np.pi / period)
    first, second = rng.uniform(0, 255, (2, 3))
    weight = (wave[:, :, None] + 1) / 2
    return np.asarray(first * weight + second * (1 - weight), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Textures:
    """Textures out of pictures, (P', P', 3) uint8 each; resized to the part's picture."""

    pictures: tuple[Pixels, ...]

    def __call__(self, picture: Pixels, rng: Rng) -> Floats:
        chosen = self.pictures[int(rng.integers(len(self.pictures)))]
        return np.asarray(_fit(chosen, picture.shape[0]), dtype=np.float32)


TRAINING: tuple[Texture, ...] = (shuffled, moved, noise, stain, flat)
UNSEEN: tuple[Texture, ...] = (smeared, warped, woven)


@dataclass(frozen=True, slots=True)
class Synthesis:
    """Draws anomalies. `thin_share` and `small_share` of the masks are scratches and specks; the rest
    blotches."""

    textures: tuple[Texture, ...] = TRAINING
    small_share: float = 0.25
    thin_share: float = 0.25

    def draw(self, picture: Pixels, foreground: Mask, rng: Rng) -> tuple[Pixels, Mask]:
        """(the picture with an anomaly, its mask (P, P)); the picture itself and an empty mask if none fits.

        `picture` (P, P, 3) uint8 RGB, `foreground` (P, P) bool.
        """
        mask = self._mask(foreground, rng)
        if not mask.any():
            return picture, mask
        texture = self.textures[int(rng.integers(len(self.textures)))](picture, rng)
        alpha = mask.astype(np.float32)
        if rng.random() < 0.5:
            alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), rng.uniform(0.4, 1.5)), dtype=np.float32)
        alpha *= 1.0 - rng.uniform(0, _MAX_BETA)
        blended = picture + alpha[:, :, None] * (texture - picture)
        return np.clip(np.round(blended), 0, 255).astype(np.uint8), mask

    def _mask(self, foreground: Mask, rng: Rng) -> Mask:
        size = foreground.shape[0]
        for _ in range(_REDRAWS):
            pick = rng.random()
            if pick < self.thin_share:
                mask = scratches(size, rng)
            elif pick < self.thin_share + self.small_share:
                mask = specks(size, rng)
            else:
                mask = blotches(size, rng)
            mask &= foreground
            if mask.sum() >= _MIN_AREA_PX:
                return mask
        return np.zeros_like(foreground)


def syntheses(textures: Sequence[Pixels], kept_share: float) -> tuple[Synthesis, Synthesis]:
    """(what training draws, what it never draws): the last `kept_share` of the texture pictures, and the
    sources that are held out, show up in the second only."""
    kept = int(len(textures) * kept_share)
    seen, unseen = textures[: len(textures) - kept], textures[len(textures) - kept :]
    more = [Textures(tuple(unseen))] if unseen else []
    return Synthesis((*TRAINING, Textures(tuple(seen)))), Synthesis((*UNSEEN, *more))


def _fade(t: NDArray[np.float64]) -> NDArray[np.float64]:
    return t**3 * (t * (t * 6 - 15) + 10)


def _unit(x: NDArray[np.floating]) -> Floats:
    low, high = float(x.min()), float(x.max())
    return ((x - low) / max(high - low, 1e-6)).astype(np.float32)


def _turn(x: Floats, degrees: float) -> Floats:
    size = x.shape[0]
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), degrees, 1.0)
    return np.asarray(cv2.warpAffine(x, matrix, (size, size)), dtype=np.float32)


def _fit(picture: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    if picture.shape[0] == size_px == picture.shape[1]:
        return picture
    return np.asarray(cv2.resize(picture, (size_px, size_px)), dtype=np.uint8)


def _recolour(picture: NDArray[np.uint8], rng: Rng) -> Floats:
    gain, shift = np.exp(rng.normal(0, 0.3, 3)), rng.normal(0, 20, 3)
    return np.clip(picture * gain + shift, 0, 255).astype(np.float32)
