"""Small SVG charts for the report: no script, no font, no file beside the page. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

_WIDTH, _HEIGHT = 760, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 14, 34
_BINS = 48


@dataclass(frozen=True, slots=True)
class Series:
    """Numbers with a name and a CSS colour."""

    name: str
    colour: str
    values: Sequence[float]


def histogram(series: Sequence[Series], marks: Sequence[tuple[float, str]], unit: str) -> str:
    """Overlaid histograms on one axis, with labelled vertical `marks`; heights are shares of each series'
    largest bar.

    What lies far beyond everything else is drawn in the last bar, so that one wild score doesn't flatten
    the rest.
    """
    everything = np.concatenate(
        [np.asarray(s.values, float) for s in series if len(s.values)] or [np.zeros(1)]
    )
    points = np.append(everything, [m for m, _ in marks])
    low, high = float(points.min()), _upper(everything, [m for m, _ in marks])
    span = (high - low) or 1.0
    low, high = low - 0.04 * span, high + 0.04 * span
    parts = [_axis(low, high, unit)]
    for one in series:
        counts, _ = np.histogram(np.clip(one.values, low, high), bins=_BINS, range=(low, high))
        parts += _bars(counts, one)
    parts += [_mark(_x(at, low, high), label) for at, label in marks]
    return _svg([*parts, *_legend([(s.name, s.colour) for s in series])], "histogram of scores")


def lines(
    series: Sequence[tuple[Series, Sequence[float]]], unit: str, marks: Sequence[tuple[float, str]]
) -> str:
    """Curves of shares in 0..1 (the series' values) over x (the second of each pair)."""
    xs = np.concatenate([np.asarray(x, float) for _, x in series])
    low, high = float(xs.min()), float(xs.max())
    parts = [_axis(low, high, unit), _share_axis()]
    for one, x in series:
        path = " ".join(f"{_x(a, low, high):.1f},{_y(v):.1f}" for a, v in zip(x, one.values, strict=True))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{one.colour}" stroke-width="2"/>')
    parts += [_mark(_x(at, low, high), label) for at, label in marks if low <= at <= high]
    return _svg([*parts, *_legend([(s.name, s.colour) for s, _ in series])], "shares over the alarm level")


def _upper(values: NDArray[np.float64], marks: Sequence[float]) -> float:
    """The highest value worth an axis: the 98th percentile with room, or the farthest mark."""
    wanted = float(np.percentile(values, 98)) * 1.1
    return max(min(float(values.max()), wanted), *marks, float(np.median(values)))


def _bars(counts: NDArray[np.int64], one: Series) -> list[str]:
    tallest = max(int(counts.max()), 1)
    width = (_WIDTH - _LEFT - _RIGHT) / _BINS
    bars = []
    for i, count in enumerate(counts):
        if count:
            top = _y(count / tallest)
            bars.append(
                f'<rect x="{_LEFT + i * width:.1f}" y="{top:.1f}" width="{width:.1f}" '
                f'height="{_y(0) - top:.1f}" fill="{one.colour}" fill-opacity="0.55">'
                f"<title>{escape(one.name)}: {count}</title></rect>"
            )
    return bars


def _axis(low: float, high: float, unit: str) -> str:
    base = _y(0)
    ticks = "".join(
        f'<text x="{_x(at, low, high):.1f}" y="{base + 14:.1f}" text-anchor="middle">{at:.3g}</text>'
        for at in _round_ticks(low, high)
    )
    label = f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end">{escape(unit)}</text>'
    return f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" y2="{base}" stroke="#888"/>{ticks}{label}'


def _round_ticks(low: float, high: float) -> list[float]:
    """Five to ten multiples of 1, 2 or 5 times a power of ten within the axis."""
    rough = (high - low) / 6.0
    power = 10.0 ** np.floor(np.log10(rough))
    step = power * min((m for m in (1.0, 2.0, 5.0, 10.0) if m * power >= rough), default=10.0)
    first = int(np.ceil(low / step))
    return [float(i * step) for i in range(first, int(np.floor(high / step)) + 1)]


def _share_axis() -> str:
    return "".join(
        f'<text x="{_LEFT - 6}" y="{_y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>'
        for share in (0.0, 0.5, 1.0)
    )


def _mark(x: float, label: str) -> str:
    # Near the right edge the words stand to the left of their line.
    beside, anchor = (x - 4, "end") if x > 0.8 * _WIDTH else (x + 4, "start")
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_y(0)}" stroke="#c22" stroke-dasharray="5 3"/>'
        f'<text x="{beside:.1f}" y="{_TOP + 10}" text-anchor="{anchor}" fill="#c22">{escape(label)}</text>'
    )


def _legend(entries: Sequence[tuple[str, str]]) -> list[str]:
    return [
        f'<rect x="{_LEFT + 190 * i}" y="{_HEIGHT - 12}" width="10" height="10" fill="{colour}"/>'
        f'<text x="{_LEFT + 190 * i + 14}" y="{_HEIGHT - 3}">{escape(name)}</text>'
        for i, (name, colour) in enumerate(entries)
    ]


def _x(value: float, low: float, high: float) -> float:
    return _LEFT + (value - low) / ((high - low) or 1.0) * (_WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _svg(parts: Sequence[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )
