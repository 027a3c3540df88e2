"""report.html beside a model: what good pictures score, where the alarm level lies, and what that choice
costs.

One file that loads nothing: factories have no internet. It says in words what the numbers can't carry.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.calibration import Calibration
from engine.versions import replace_file

from .charts import Series, histogram, lines
from .evaluate import FALSE_ALARMS_PER_HOUR, FPS, ON_FRAMES, Evaluation, Measured, flat
from .gallery import Tile, gallery, scale_bar

WORST_GOOD, SHOWN_DEFECTS = 8, 32
_RATES = (0.1, 1.0, 10.0, 100.0)
_GREEN, _GREY, _RED = "#2a8f57", "#7d8794", "#b3262e"


@dataclass(frozen=True, slots=True, eq=False)
class Good:
    """A held-out good picture: `pixels` (P, P, 3) uint8, `raw` (P, P) float32 map, `score` its region
    score.
    """

    name: str
    pixels: NDArray[np.uint8]
    raw: NDArray[np.float32]
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What a report is made of; `tested` is None as long as there was no test set. `facts` are shown as a
    table.
    """

    title: str
    calibration: Calibration
    good: Sequence[Good] = ()
    tested: Evaluation | None = None
    warnings: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def own_threshold(self) -> float:
        """The model's own alarm level in raw map values."""
        return self.calibration.threshold(FALSE_ALARMS_PER_HOUR, FPS, ON_FRAMES)

    @property
    def threshold(self) -> float:
        """The alarm level that this report is of: the model's own, unless another one was tried."""
        return self.own_threshold if self.tested is None else self.tested.threshold


def write_report(report: Report, path: Path) -> None:
    """Write report.html, whole or not at all. Raises OSError when the disk is full or not writable.

    Of a file name that isn't UTF-8 the odd bytes are written as \\udcXX.
    """
    replace_file(path, render(report).encode(errors="backslashreplace").decode())


def render(report: Report) -> str:
    """The page as one string, without any address that a browser would fetch."""
    sections = [_warnings(report), _numbers(report), _scores(report), _cost(report), _worst_good(report)]
    sections.append(_tested(report))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(report.title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(report.title)}</h1>{''.join(sections)}</body></html>\n"
    )


def _warnings(report: Report) -> str:
    sentences = [*report.warnings, *(report.tested.warnings if report.tested else ())]
    if report.threshold != report.own_threshold:
        tried = f"This is a trial at the alarm level {report.threshold:.4g}"
        sentences.insert(0, f"{tried}; the model's own is {report.own_threshold:.4g}.")
    items = "".join(f"<li>{escape(s)}</li>" for s in sentences)
    return f'<section class="warn"><h2>Before you rely on it</h2><ul>{items}</ul></section>' if items else ""


def _numbers(report: Report) -> str:
    facts = dict(report.facts)
    if report.tested is not None:
        facts |= flat(report.tested.results)
    rows = "".join(f"<tr><th>{escape(k)}</th><td>{escape(_shown(v))}</td></tr>" for k, v in facts.items())
    return f"<section><h2>Numbers</h2><table>{rows}</table></section>" if rows else ""


def _scores(report: Report) -> str:
    c, level = report.calibration, report.threshold
    series = [Series("held-out good", _GREEN, [c.score_ratio(s, level) for s in c.scores])]
    for name, colour, good in (("test, good", _GREY, True), ("test, defective", _RED, False)):
        values = [c.score_ratio(m.scores.region, level) for m in _of(report, good)]
        if values:
            series.append(Series(name, colour, values))
    chart = histogram(series, [(0.0, "median of good"), (1.0, "alarm level")], "score ratio")
    words = c.confidence_text(FALSE_ALARMS_PER_HOUR, FPS, ON_FRAMES)
    if level != report.own_threshold:
        words = f"Of the model's own alarm level, which is {report.own_threshold:.4g}: {words}"
    return f"<section><h2>What good pictures score</h2><p>{escape(words)}</p>{chart}</section>"


def _cost(report: Report) -> str:
    """For several rates: the level, and what it does to the test pictures, if there are any."""
    good, bad = _of(report, True), _of(report, False)
    heads = ["false alarms an hour", "alarm level", *(["good test pictures alarming"] if good else [])]
    heads += ["defective test pictures found"] if bad else []
    rows = []
    for rate in _RATES:
        level = report.calibration.threshold(rate, FPS, ON_FRAMES)
        cells = [f"{rate:g}", f"{level:.4g}", *(_above(part, level) for part in (good, bad) if part)]
        rows.append("<tr>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    table = "<tr>" + "".join(f"<th>{h}</th>" for h in heads) + "</tr>" + "".join(rows)
    how = f"Reckoned at {FPS:g} frames a second and {ON_FRAMES} frames in a row."
    heading = f"<h2>What the choice costs</h2><p>{how}</p>"
    return f"<section>{heading}<table>{table}</table>{_curves(report)}</section>"


def _curves(report: Report) -> str:
    good, bad = _of(report, True), _of(report, False)
    if not bad:
        return ""
    ratio = report.calibration.score_ratio
    ratios = np.linspace(0.0, 3.0, 61)
    series = []
    for name, colour, part in (
        ("good pictures alarming", _GREY, good),
        ("defective pictures found", _RED, bad),
    ):
        if part:
            scores = np.array([ratio(m.scores.region, report.threshold) for m in part])
            series.append(
                (Series(name, colour, [float((scores > r).mean()) for r in ratios]), ratios.tolist())
            )
    return lines(series, "alarm level, relative to the chosen one", [(1.0, "chosen")])


def _worst_good(report: Report) -> str:
    worst = sorted(report.good, key=lambda g: -g.score)[:WORST_GOOD]
    tiles = [Tile(g.name, _ratio_note(report, g.score), g.pixels, _levels(report, g.raw)) for g in worst]
    return _pictures("The held-out good pictures that score highest", tiles)


def _tested(report: Report) -> str:
    """False alarms first, then what was missed, then what was found by the least: the hardest at the top."""
    ranked = sorted(_of(report, False), key=lambda m: m.scores.region)[:SHOWN_DEFECTS]
    alarms = [m for m in _of(report, True) if m.scores.region > report.threshold][:WORST_GOOD]
    title = "Defective test pictures, the weakest first"
    return _pictures("Good test pictures that alarm", [_tile(report, m) for m in alarms]) + _pictures(
        title, [_tile(report, m) for m in ranked]
    )


def _tile(report: Report, m: Measured) -> Tile:
    name = f"{m.picture.kind}/{m.picture.path.name}"
    return Tile(
        name, _ratio_note(report, m.scores.region), m.picture.pixels, _levels(report, m.raw), m.picture.mask
    )


def _pictures(title: str, tiles: Sequence[Tile]) -> str:
    return f"<section><h2>{escape(title)}</h2>{scale_bar()}{gallery(tiles)}</section>" if tiles else ""


def _levels(report: Report, raw: NDArray[np.float32]) -> NDArray[np.float32]:
    median = report.calibration.median
    return ((raw - median) / (report.threshold - median)).astype(np.float32)


def _ratio_note(report: Report, score: float) -> str:
    ratio = report.calibration.score_ratio(score, report.threshold)
    return f"{ratio:.2f} of the alarm level" + (" · alarm" if score > report.threshold else "")


def _of(report: Report, good: bool) -> list[Measured]:
    return [m for m in report.tested.measured if m.picture.good == good] if report.tested else []


def _above(part: Sequence[Measured], level: float) -> str:
    count = sum(m.scores.region > level for m in part)
    return f"{count} of {len(part)}"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "cannot be said" if value is None else str(value)


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:860px;margin:2em auto;padding:0 1em;color:#1c2430}"
    "table{border-collapse:collapse}th,td{text-align:left;padding:.2em .8em .2em 0;font-weight:normal}"
    "th{color:#5a6472}svg{width:100%;font:11px system-ui,sans-serif}"
    ".warn{background:#fff4e0;padding:.1em 1em}.gallery{display:flex;flex-wrap:wrap;gap:12px}"
    "figure{margin:0;width:392px}figure img{width:192px;margin-right:2px}"
    "figcaption{font-size:13px}.scale img{width:100%;height:12px}.scale p{display:flex;margin:0;"
    "justify-content:space-between;font-size:12px}"
)
