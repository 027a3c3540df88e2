"""What a person should know of their pictures before trusting the model: plain sentences that name files.
Pure.

All limits are ours, relative to the set itself, so that they hold for any part and any light.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.calibration import Calibration

from .takes import Pictures, copies, takes

ENOUGH = 50
# The demo's pictures are learnt in 300 steps; with far fewer good parts look as odd as defects.
ENOUGH_STEPS = 200
_BLURRED_SHARE = 0.25
_SAME_NOTED_FROM = 0.2
_SUSPECT_EXPECTED = 0.01
_NAMED = 5


def advise(names: Sequence[str], pictures: Pictures) -> list[str]:
    """On good pictures (P, P, 3) uint8 RGB, before training: how many, how sharp, how different."""
    found = few(len(pictures))
    if names_blurred := blurred(names, pictures):
        found.append(f"Blurred beside the others: {_listed(names_blurred)}. Leave such pictures out.")
    same = max(near_copies(pictures), len(pictures) - len(set(takes(pictures))))
    if same >= max(2, _SAME_NOTED_FROM * len(pictures)):
        found.append(
            f"{same} of {len(pictures)} pictures are nearly the same as an earlier one: they teach little, "
            "and fewer parts are behind the alarm level than it seems. Capture for longer: "
            "`linewatch capture NAME --every SECONDS`, about as long as one part is seen."
        )
    return found


def few(count: int) -> list[str]:
    """A sentence for fewer good pictures than a model should learn from."""
    if count >= ENOUGH:
        return []
    return [f"There are only {count} good pictures: {ENOUGH} or more would give fewer false alarms."]


def short(steps: int) -> list[str]:
    """A sentence for a training that ends before its student knows the good parts."""
    if steps >= ENOUGH_STEPS:
        return []
    return [f"Only {steps} steps: good for a trial, too few to trust the alarms. Leave --steps out."]


def blurred(names: Sequence[str], pictures: Pictures) -> list[str]:
    """Pictures whose edges (variance of the Laplacian) have less than a quarter of the median picture's
    strength.
    """
    if len(pictures) < 4:
        return []
    strength = np.array([cv2.Laplacian(_grey(p), cv2.CV_32F).var() for p in pictures])
    weak = strength < _BLURRED_SHARE * np.median(strength)
    return [name for name, is_weak in zip(names, weak, strict=True) if is_weak]


def near_copies(pictures: Pictures) -> int:
    """How many are nearly the same as an earlier one (see takes.py)."""
    return int((copies(pictures) != np.arange(len(pictures))).sum())


def suspects(names: Sequence[str], region_scores: Sequence[float]) -> list[str]:
    """Good pictures that the others' scores make all but impossible: perhaps they aren't good. Highest
    first.

    A picture is named when, by the tail fitted without it, fewer than 0.01 such pictures were to be
    expected. The tail is taken as heavier the fewer scores it rests on (Lomax: an exponential whose scale
    isn't known well).
    """
    left = sorted(zip(region_scores, names, strict=True), reverse=True)
    found: list[str] = []
    while len(left) > 6 and len(found) < _NAMED:
        (score, name), others = left[0], [s for s, _ in left[1:]]
        tail = Calibration.fit(others, others).tail
        excess = max(score - tail.level, 0.0) / tail.scale
        expected = len(left) * tail.share * (1.0 + excess / tail.count) ** -(tail.count + 1.0)
        if expected >= _SUSPECT_EXPECTED:
            break
        found.append(name)
        left = left[1:]
    return found


def suspicion(names: Sequence[str]) -> list[str]:
    """The sentence for `suspects`."""
    if not names:
        return []
    return [
        f"Among the good pictures stands out: {_listed(names)}. A picture that shows a defect raises the "
        "alarm level: take it out and train again."
    ]


def stand_alone(names: Sequence[str]) -> list[str]:
    """The sentence for pictures that look unlike all others (see odd.py)."""
    if not names:
        return []
    return [
        f"Unlike all other pictures: {_listed(names)}. Another view, another part or a defect? Such a "
        "picture is learnt from as a good one, but has no say in the alarm level. If it isn't good, delete "
        "it and train again; if it is, capture more like it."
    ]


def _grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
