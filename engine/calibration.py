"""What good pictures score, and the alarm level that follows from it. NumPy and the standard library only.

What is calibrated is the *region score* of a picture: the highest level at which an 8-connected region of at
least `min_area_px` map pixels exists, because a region above the alarm level is what decides NG.

The tail of the held-out good region scores is fitted by peaks over a level (the generalised Pareto law; with
few pictures in the shape of a normal distribution's tail). An alarm rate then gives a level. Our choices:

- 3600 * fps frames an hour may exceed the level; an alarm needs `on_frames` of them in a row. Neighbouring
  frames often show the same part, so a further frame counts as half an independent look, and all of them
  together never as more than two looks: p(alarm) = p(frame) ** min(1 + (on_frames - 1) / 2, 2).
- The fit isn't believed beyond one picture in 1000 times as many as were seen.
- One stray picture can't pull the whole fit up: the largest excess is limited by what the others make likely.
- A tail of a few scores is steadied by the spread of all of them: as if 10 more excesses of 0.7 standard
  deviations had been seen (0.6 is a normal distribution's, 1 an exponential's); and the scale grows by its
  relative error.
- The shape is drawn towards -0.2, which follows a normal distribution from its upper quarter to one in a
  thousand: scores are sums of logarithms, whose tails are light.
- The level never lies among the good scores: it is above the highest.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ArtifactError

_TAIL_SHARE = 0.25
_TAIL_MIN, _TAIL_MAX = 3, 100
_PRIOR_COUNT, _PRIOR_SPREADS = 10, 0.7
_SHAPE_FROM, _SHAPE_PRIOR_COUNT, _SHAPE_PRIOR = 20, 50, -0.2
_SHAPE_LIMITS = (-0.3, 0.1)
_REACH = 1000
_KEPT_SCORES = 1000
_MARGIN = 0.25
# What a manifest may say, with room for fits other than ours. Raw maps are float32, and a tail isn't wider
# than so many times what it was fitted to.
_LARGEST, _LARGEST_SHAPE, _WIDEST, _MOST_PICTURES = 1e30, 0.5, 10, 10**9


class CalibrationError(ArtifactError):
    """There are no usable good scores, or a saved calibration can't be read."""


@dataclass(frozen=True, slots=True)
class Tail:
    """P(score > t) = share * (1 + shape * (t - level) / scale) ** (-1 / shape) for t >= level.

    At shape 0 that is share * exp(-(t - level) / scale). `count` is k, how many of the pictures lie above
    `level`; `share` is k / n.
    """

    kind: str
    level: float
    scale: float
    shape: float
    share: float
    count: int

    def exceedance(self, score: float) -> float:
        """Chance that a good picture is above `score`; below the level, where nothing is fitted, `share`."""
        reach = max(score - self.level, 0.0) / self.scale
        if self.shape == 0.0:
            return self.share * math.exp(-reach)
        base = 1.0 + self.shape * reach
        return self.share * base ** (-1.0 / self.shape) if base > 0.0 else 0.0

    def score_at(self, probability: float) -> float:
        """The score that a good picture exceeds with `probability`; the level itself at `share` and above."""
        log_ratio = math.log(max(self.share / probability, 1.0))
        if self.shape == 0.0:
            return self.level + self.scale * log_ratio
        return self.level + self.scale * math.expm1(self.shape * log_ratio) / self.shape


@dataclass(frozen=True, slots=True)
class Calibration:
    """Statistics of held-out good pictures, in raw map values.

    `median`, `highest` and `tail` are of region scores; `image_median` of image scores (they rank only).
    `scores` are the region scores, ascending (a thousand at most, evenly thinned, the highest kept), so that
    live good scores can be added later. `min_area_px` counts cells of the picture's map, which has `input_px`
    on a side, of each tile where there are several.
    """

    median: float
    highest: float
    image_median: float
    tail: Tail
    pictures: int
    min_area_px: int
    input_px: int
    scores: tuple[float, ...]

    @classmethod
    def fit(
        cls,
        region_scores: Sequence[float] | NDArray[np.floating[Any]],
        image_scores: Sequence[float] | NDArray[np.floating[Any]],
        *,
        min_area_px: int = 8,
        input_px: int = 256,
        stands_for: int | None = None,
    ) -> "Calibration":
        """From the scores of good pictures that training never saw; order doesn't matter.

        `stands_for` pictures the scores are an even sample of; None: just themselves. Raises
        CalibrationError for fewer than two pictures or for a score that isn't a finite number.
        """
        scores = np.sort(np.asarray(region_scores, dtype=np.float64).ravel())
        images = np.asarray(image_scores, dtype=np.float64).ravel()
        if len(scores) < 2:
            raise CalibrationError(
                f"An alarm level needs at least 2 held-out good pictures, not {len(scores)}: capture more."
            )
        if not (np.isfinite(scores).all() and np.isfinite(images).all() and len(images)):
            raise CalibrationError(
                "A good picture has no finite score: the model is broken, or its region of interest is "
                f"smaller than {min_area_px} pixels."
            )
        return cls(
            median=float(np.median(scores)),
            highest=float(scores[-1]),
            image_median=float(np.median(images)),
            tail=_fit_tail(scores),
            pictures=stands_for or len(scores),
            min_area_px=min_area_px,
            input_px=input_px,
            scores=_thin(scores),
        )

    def with_more(self, region_scores: Sequence[float]) -> "Calibration":
        """The same with further good scores, for instance from the live line; `image_median` stays.

        Where only a share of the old scores was kept, the same share of the new ones counts, evenly from the
        highest down.
        """
        falling = sorted(region_scores, reverse=True)
        count = round(len(falling) * min(1.0, len(self.scores) / self.pictures))
        at = np.linspace(0, len(falling) - 1, max(1, count)).round().astype(int) if falling else ()
        more = [falling[i] for i in at]
        return Calibration.fit(
            (*self.scores, *more),
            (self.image_median,),
            min_area_px=self.min_area_px,
            input_px=self.input_px,
            stands_for=self.pictures + len(region_scores),
        )

    def threshold(self, false_alarms_per_hour: float, fps: float, on_frames: int) -> float:
        """The raw map value above which a region of a frame counts; always above `median`.

        `fps` is inspected frames a second, `on_frames` how many in a row make an alarm. The level also
        clears the highest held-out good score, by a quarter of the tail's scale. Raises ValueError for a
        rate, fps or on_frames that isn't positive.
        """
        wanted = _frame_probability(false_alarms_per_hour, fps, on_frames)
        level = self.tail.score_at(max(wanted, 1.0 / (_REACH * self.pictures)))
        return max(level, self.highest + _MARGIN * self.tail.scale)

    def false_alarms_per_hour(self, threshold: float, fps: float, on_frames: int) -> float:
        """What the fit expects of a level: the way back from `threshold()`, for a slider or a report."""
        looks = effective_looks(on_frames)
        return float(3600.0 * fps * self.tail.exceedance(threshold) ** looks)

    def score_ratio(self, score: float, threshold: float) -> float:
        """0 = as the median good picture, 1 = the alarm level, on every camera."""
        return (score - self.median) / (threshold - self.median)

    def bound_per_frame(self) -> float:
        """The largest share of good pictures above the highest score seen that n pictures can't rule out with
        95 % confidence.
        """
        return float(1.0 - 0.05 ** (1.0 / self.pictures))

    def confidence_text(self, false_alarms_per_hour: float, fps: float, on_frames: int) -> str:
        """How far the number of false alarms can be trusted, in plain words."""
        wanted = _frame_probability(false_alarms_per_hour, fps, on_frames)
        bound = self.bound_per_frame()
        rests = f"The alarm level rests on {self.pictures} held-out good pictures"
        alarms = "false alarm" if false_alarms_per_hour == 1 else "false alarms"
        rate = f"{_number(false_alarms_per_hour)} {alarms} an hour at {_number(fps)} frames a second"
        if bound <= wanted:
            return f"{rests}: enough to say with 95 % confidence that it keeps to about {rate}."
        needed = math.ceil(math.log(0.05) / math.log1p(-wanted))
        return (
            f"{rests}. Counting alone, they show with 95 % confidence only that fewer than one good frame in "
            f"{_number(1.0 / bound)} lies above it; {rate} is an extrapolation from the {self.tail.count} "
            f"highest scores. About {_number(needed)} good pictures would be needed to be sure: expect to "
            "adjust the level in the first days."
        )

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, for a manifest."""
        return {"region": {"connectivity": 8, "score": "highest level of a region"}, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Calibration":
        """The way back; unknown keys are left alone. Raises CalibrationError."""
        try:
            tail = Tail(
                kind=str(data["tail"]["kind"]),
                count=int(data["tail"]["count"]),
                **{name: float(data["tail"][name]) for name in ("level", "scale", "shape", "share")},
            )
            read = cls(
                tail=tail,
                scores=tuple(float(s) for s in data["scores"]),
                median=float(data["median"]),
                highest=float(data["highest"]),
                image_median=float(data["image_median"]),
                pictures=int(data["pictures"]),
                min_area_px=int(data["min_area_px"]),
                input_px=int(data["input_px"]),
            )
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise CalibrationError(f"The calibration in the manifest can't be read: {error!r}.") from error
        return read._checked()

    def _checked(self) -> "Calibration":
        tail = self.tail
        numbers = (self.median, self.highest, self.image_median, tail.level, tail.scale, *self.scores)
        # NaN is no smaller than anything.
        if (
            not all(abs(number) <= _LARGEST for number in numbers)
            or not abs(tail.shape) <= _LARGEST_SHAPE
            or not (tail.scale > 0 and 0 < tail.share <= 1)
        ):
            raise CalibrationError("The calibration in the manifest has numbers that can't be: train again.")
        lowest = min(self.scores, default=math.inf)
        among = all(lowest <= number <= self.highest for number in (self.median, tail.level, *self.scores))
        widest = _WIDEST * max(self.highest - lowest, abs(tail.level), 1e-6)
        counts = 2 <= self.pictures <= _MOST_PICTURES and 1 <= tail.count <= self.pictures
        if not (among and tail.scale <= widest and counts and self.min_area_px >= 1):
            raise CalibrationError("The calibration in the manifest contradicts itself: train again.")
        return self


def effective_looks(on_frames: int) -> float:
    """How many independent looks `on_frames` frames in a row are worth (ours; see the top of this file)."""
    return min(1.0 + (on_frames - 1) / 2.0, 2.0)


def _frame_probability(false_alarms_per_hour: float, fps: float, on_frames: int) -> float:
    if not (false_alarms_per_hour > 0 and fps > 0 and on_frames >= 1):
        raise ValueError("false_alarms_per_hour and fps must be above 0, and on_frames at least 1")
    per_frame = min(false_alarms_per_hour / (3600.0 * fps), 1.0)
    return float(min(per_frame ** (1.0 / effective_looks(on_frames)), 0.999_999))


def _fit_tail(scores: NDArray[np.float64]) -> Tail:
    """Peaks over the (k+1)-th highest of ascending `scores`; k is a quarter of them, at least 3 of 6."""
    n = len(scores)
    k = max(min(max(math.ceil(_TAIL_SHARE * n), _TAIL_MIN), n // 2, _TAIL_MAX), 1)
    level = float(scores[n - k - 1])
    excess = _tamed(scores[n - k :] - level)
    shape = _shape(excess) if k >= _SHAPE_FROM else _SHAPE_PRIOR
    # The law's mean is scale / (1 - shape): the scale follows the shape, so the mean excess stays the same.
    scale = _mean_excess(scores, level, excess) * (1.0 - shape)
    return Tail("gpd" if shape else "exponential", level, scale, shape, k / n, k)


def _mean_excess(scores: NDArray[np.float64], level: float, excess: NDArray[np.float64]) -> float:
    """Of the tail, steadied by the spread of all scores and raised by its relative error; never 0."""
    k = len(excess)
    spread = float(np.append(scores[:-k], level + excess).std(ddof=1))
    weight = k + _PRIOR_COUNT
    mean = (float(excess.sum()) + _PRIOR_COUNT * _PRIOR_SPREADS * spread) / weight
    # Equal scores must not put the alarm level right on top of them.
    smallest = max(1e-3 * abs(level), 1e-6)
    return max(mean, smallest) * (1.0 + 1.0 / math.sqrt(weight))


def _tamed(excess: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest excess limited to what an exponential through the others exceeds in about 1 of 20 cases."""
    k = len(excess)
    if k < 3:
        return excess
    limit = float(excess[:-1].mean()) * (math.log(k) + 3.0)
    return np.append(excess[:-1], min(float(excess[-1]), limit))


def _shape(excess: NDArray[np.float64]) -> float:
    """Shape by probability-weighted moments (Hosking and Wallis 1987), drawn towards the prior."""
    k = len(excess)
    weights = 1.0 - (np.arange(1, k + 1) - 0.35) / k
    first, second = float(excess.mean()), float((weights * excess).mean())
    if first <= 2.0 * second:
        return _SHAPE_PRIOR
    seen = 2.0 - first / (first - 2.0 * second)
    shape = (k * seen + _SHAPE_PRIOR_COUNT * _SHAPE_PRIOR) / (k + _SHAPE_PRIOR_COUNT)
    return float(np.clip(shape, *_SHAPE_LIMITS))


def _thin(ascending: NDArray[np.float64]) -> tuple[float, ...]:
    n = len(ascending)
    if n > _KEPT_SCORES:
        ascending = ascending[np.linspace(0, n - 1, _KEPT_SCORES).round().astype(int)]
    return tuple(float(s) for s in ascending)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
