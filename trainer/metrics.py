"""Accuracy of anomaly maps, by the definitions that make numbers comparable. Float32 ranks, no fixed
thresholds.

A *pair* is a map (h, w) float32, higher = more anomalous, and its mask (h, w) bool, True = defect; a good
picture has an empty mask. All sizes may differ between pairs. Every curve here is exact: it is only ever
evaluated at the scores of defect pixels, because between two of them nothing but the false positive rate
moves.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .errors import DataError

Pair = tuple[NDArray[np.float32], NDArray[np.bool_]]

FPR_LIMIT = 0.3
AUPIMO_RANGE = (1e-5, 1e-4)
AUPIMO_MIN_GOOD = 20


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """All pixels of a test set, ready to rank.

    `background` (B,) float32 ascending: every pixel outside defects, of good pictures too. `scores` (D,)
    float32 descending: the defect pixels; `shares` (D,) float64: each one's 1 / (area of its region).
    `regions`: how many.
    """

    background: NDArray[np.float32]
    scores: NDArray[np.float32]
    shares: NDArray[np.float64]
    regions: int

    @classmethod
    def of(cls, pairs: Iterable[Pair]) -> "Pixels":
        """Raises DataError for a map and a mask of different sizes, or a map that isn't finite."""
        background, scores, shares = [], [], []
        regions = 0
        for raw, mask in pairs:
            level, inside = _checked(raw, mask)
            background.append(level[~inside])
            if inside.any():
                labels, areas = regions_of(inside)
                scores.append(level[inside])
                shares.append(1.0 / areas[labels[inside]])
                regions += len(areas) - 1
        below = np.concatenate(background) if background else np.empty(0, np.float32)
        below.sort()
        defect = np.concatenate(scores) if scores else np.empty(0, np.float32)
        share = np.concatenate(shares) if shares else np.empty(0, np.float64)
        order = np.argsort(-defect, kind="stable")
        return cls(below, defect[order], share[order], regions)

    @property
    def comparable(self) -> bool:
        """Both kinds of pixel are there; without either there is no curve."""
        return bool(len(self.background) and len(self.scores))


def regions_of(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """8-connected regions: labels (h, w), 0 outside, and areas in pixels by label (areas[0]: outside)."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return np.asarray(labels, np.int32), np.asarray(stats[:, cv2.CC_STAT_AREA], np.int32)


def pixel_auroc(pixels: Pixels) -> float | None:
    """Area under the ROC over pooled pixels, ties counted half; None without defects or background."""
    return _auroc(pixels.scores, pixels.background) if pixels.comparable else None


def average_precision(pixels: Pixels) -> float | None:
    """Step-wise over pooled pixels: the sum of (recall step) * precision; never a trapezoid."""
    if not pixels.comparable:
        return None
    last, _, false_at = _tie_ends(pixels)
    true = last + 1.0
    recall_steps = np.diff(true, prepend=0.0) / len(pixels.scores)
    return float(np.sum(recall_steps * true / (true + false_at)))


def pro(pixels: Pixels) -> float | None:
    """MVTec's own per-region overlap: mean over regions, one pooled curve up to an FPR of 0.3, divided by it.

    One point per distinct score, (0, 0) and (1, 1) added, linear at the limit. Perfect maps 1, constant ones
    0.15, inverted 0.
    """
    if not pixels.comparable:
        return None
    last, false_above, false_at = _tie_ends(pixels)
    overlap = np.cumsum(pixels.shares)[last] / pixels.regions
    before = np.concatenate(([0.0], overlap[:-1]))
    # Two points per distinct defect score: where the background above it ends, and the score itself.
    rate = np.stack((false_above, false_at), axis=1).ravel() / len(pixels.background)
    height = np.stack((before, overlap), axis=1).ravel()
    return _area_up_to(np.append(rate, 1.0), np.append(height, 1.0), FPR_LIMIT) / FPR_LIMIT


def pro_per_image(pairs: Iterable[Pair]) -> float | None:
    """Mean over defective pictures of each one's PRO against its own background.

    It forgives offsets between pictures. The kind that several published tables show; up to 26 points above
    the pooled one, so never mixed with it.
    """
    values = [v for pair in pairs if pair[1].any() and (v := pro(Pixels.of([pair]))) is not None]
    return float(np.mean(values)) if values else None


def image_auroc(good: Sequence[float], defective: Sequence[float]) -> float | None:
    """ROC area of image scores, ties counted half; None when a kind is missing."""
    if not len(good) or not len(defective):
        return None
    below = np.sort(np.asarray(good, dtype=np.float64))
    return _auroc(np.asarray(defective, dtype=np.float64), below)


def aupimo(pairs: Sequence[Pair]) -> list[float] | None:
    """Per defective picture: recall over log FPR from 1e-5 to 1e-4, FPR over pixels of *good pictures
    only*.

    One value in 0..1 each; report mean and spread. None below 20 good pictures, or without defects. After
    Bertoldo et al. 2024; the curve is linear between its exact points and integrated in closed form (ours).
    """
    normal = [np.asarray(raw, np.float32).ravel() for raw, mask in pairs if not mask.any()]
    defective = [(raw, mask) for raw, mask in pairs if mask.any()]
    if len(normal) < AUPIMO_MIN_GOOD or not defective:
        return None
    values, counts, total = _highest(np.concatenate(normal), AUPIMO_RANGE[1])
    above = np.concatenate(([0], counts[:-1]))
    rate = np.stack((above, counts), axis=1).ravel() / total
    return [_one_aupimo(np.sort(np.asarray(raw, np.float32)[mask]), values, rate) for raw, mask in defective]


def pooled_metrics(pixels: Pixels) -> dict[str, float | None]:
    """pixel_auroc, ap and pro of pooled pixels; None where they can't say."""
    return {"pixel_auroc": pixel_auroc(pixels), "ap": average_precision(pixels), "pro": pro(pixels)}


@dataclass(frozen=True, slots=True)
class Found:
    """A true defect at an alarm level: its area in map pixels, and whether an alarming region meets it."""

    area_px: int
    found: bool


def defects_at(
    raw: NDArray[np.float32], mask: NDArray[np.bool_], threshold: float, min_area_px: int
) -> list[Found]:
    """Every region of `mask`, and whether a big enough region of `raw` above `threshold` meets it."""
    level, inside = _checked(raw, mask)
    labels, areas = regions_of(inside)
    alarming, sizes = regions_of(level > threshold)
    counts = sizes >= min_area_px
    counts[0] = False
    touched = set(np.unique(labels[counts[alarming]]).tolist())
    return [Found(int(area), label in touched) for label, area in enumerate(areas) if label]


def share(flags: Iterable[bool]) -> float | None:
    """Of true ones; None of nothing."""
    values = list(flags)
    return sum(values) / len(values) if values else None


def _checked(raw: NDArray[Any], mask: NDArray[Any]) -> Pair:
    level, inside = np.asarray(raw, dtype=np.float32), np.asarray(mask, dtype=np.bool_)
    if level.shape != inside.shape:
        raise DataError(f"A map of {level.shape} has a mask of {inside.shape}: both must have one size.")
    if not np.isfinite(level).all():
        raise DataError("A map has values that aren't finite numbers: the model is broken, train again.")
    return level, inside


def _auroc(scores: NDArray[np.floating[Any]], background: NDArray[np.floating[Any]]) -> float:
    below = background.searchsorted(scores, side="left").sum(dtype=np.float64)
    not_above = background.searchsorted(scores, side="right").sum(dtype=np.float64)
    return float((below + not_above) / 2.0 / (float(len(scores)) * len(background)))


def _tie_ends(pixels: Pixels) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Per distinct defect score, highest first: last index, background above it, and not below."""
    scores, background = pixels.scores, pixels.background
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    distinct = scores[last]
    false_above = len(background) - background.searchsorted(distinct, side="right")
    false_at = len(background) - background.searchsorted(distinct, side="left")
    return last, false_above.astype(np.float64), false_at.astype(np.float64)


def _area_up_to(x: NDArray[np.float64], y: NDArray[np.float64], limit: float) -> float:
    """Trapezoids under ascending `x` from (0, 0), cut at `limit` with linear interpolation."""
    x, y = np.concatenate(([0.0], x)), np.concatenate(([0.0], y))
    inside = int(np.searchsorted(x, limit, side="right"))
    if inside < len(x):
        slope = (y[inside] - y[inside - 1]) / (x[inside] - x[inside - 1])
        at_limit = y[inside - 1] + slope * (limit - x[inside - 1])
        x, y = np.append(x[:inside], limit), np.append(y[:inside], at_limit)
    return float(np.trapezoid(y, x))


def _highest(scores: NDArray[np.float32], reach: float) -> tuple[NDArray[np.float32], NDArray[np.intp], int]:
    """Distinct highest scores, descending, until their share passes `reach`; counts at or above each; n."""
    n = len(scores)
    kth = min(math.floor(reach * n) + 1, n)
    cut = np.partition(scores, n - kth)[n - kth]
    values, counts = np.unique(scores[scores >= cut], return_counts=True)
    return values[::-1], np.cumsum(counts[::-1]), n


def _one_aupimo(defect: NDArray[np.float32], values: NDArray[np.float32], rate: NDArray[np.float64]) -> float:
    """`defect` ascending, `values` descending; `rate` has two points a value: above it, at or above it."""
    above = len(defect) - defect.searchsorted(values, side="right")
    at = len(defect) - defect.searchsorted(values, side="left")
    recall = np.stack((above, at), axis=1).ravel() / len(defect)
    low, high = AUPIMO_RANGE
    left, right = np.clip(rate[:-1], low, high), np.clip(rate[1:], low, high)
    wide = right > left
    start, end = rate[:-1][wide], rate[1:][wide]
    slope = np.diff(recall)[wide] / (end - start)
    offset = recall[:-1][wide] - slope * start
    area = offset * np.log(right[wide] / left[wide]) + slope * (right[wide] - left[wide])
    return float(area.sum() / math.log(high / low))
