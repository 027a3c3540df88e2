"""The report: one file that loads nothing, says what the choice costs, and never paints a good part red."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.calibration import Calibration
from trainer.calibrate import Predict
from trainer.charts import Series, histogram
from trainer.evaluate import evaluate
from trainer.gallery import colours
from trainer.report import Good, Report, render, write_report
from trainer.testset import TestPicture

_SIZE = 32


def _picture(name: str, kind: str, red: int) -> TestPicture:
    pixels = np.zeros((_SIZE, _SIZE, 3), np.uint8)
    pixels[4:12, 4:12, 0] = red
    return TestPicture(Path(name), kind, pixels, (pixels[..., 0] > 0) & (kind != "good"), (_SIZE, _SIZE))


def _red() -> Predict:
    return lambda pictures: np.stack([p[..., 0].astype(np.float32) for p in pictures])


@pytest.fixture
def report() -> Report:
    scores = np.linspace(0, 10, 20)
    calibration = Calibration.fit(scores, scores, min_area_px=4, input_px=_SIZE)
    pictures = [
        *(_picture(f"ok{i}.png", "good", red) for i, red in enumerate((0, 5, 250))),
        *(_picture(f"bad{i}.png", "scratch & <dent>", red) for i, red in enumerate((3, 200))),
    ]
    good = [
        Good(f"held{i}.png", p.pixels, p.pixels[..., 0].astype(np.float32), i) for i, p in enumerate(pictures)
    ]
    tested = evaluate(_red(), calibration, pictures)
    return Report("top@7", calibration, good, tested, ["Look at <this>."], {"steps": 300})


def test_the_report_loads_nothing_from_anywhere(report: Report) -> None:
    page = render(report)
    addresses = re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?([^"\'\s)>]+)', page)
    assert addresses and all(a.startswith("data:image/jpeg;base64,") for a in addresses)
    assert "<script" not in page and "@import" not in page and "http" not in page


def test_what_others_named_is_escaped(report: Report) -> None:
    page = render(report)
    assert "Look at &lt;this&gt;." in page and "scratch &amp; &lt;dent&gt;/bad0.png" in page


def test_the_cost_of_each_rate_is_told_in_pictures(report: Report) -> None:
    assert "<td>1 of 3</td><td>1 of 2</td>" in render(report)


def test_false_alarms_and_misses_are_shown_and_marked(report: Report) -> None:
    page = render(report)
    assert "Good test pictures that alarm" in page and "good/ok2.png" in page
    assert page.index("/bad0.png") < page.index("/bad1.png")
    assert page.count("· alarm<") == 2


def test_without_a_test_set_the_report_still_shows_good_pictures_and_confidence(report: Report) -> None:
    page = render(Report("top@7", report.calibration, report.good))
    assert "held4.png" in page and "extrapolation" in page
    assert "Good test pictures" not in page and "found" not in page


def test_a_report_is_written_whole(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == render(report)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_file_name_that_is_not_utf_8_does_not_spoil_the_report(report: Report, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    write_report(Report("top@7", report.calibration, warnings=[f"Skipped: {name}"]), tmp_path / "report.html")
    assert "Skipped: caf\\udce9.png" in (tmp_path / "report.html").read_text()


def _is_red(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray(pixels[..., 0].astype(int) > pixels[..., 1].astype(int) + 20)


def test_a_good_part_is_never_red_and_an_alarm_always_is() -> None:
    levels = np.linspace(-3, 4, 1401, dtype=np.float32)[None]
    red = _is_red(colours(levels))
    assert not red[levels <= 0.999].any() and red[(levels >= 1.0) & (levels <= 1.7)].all()


def test_the_colour_of_a_level_does_not_depend_on_its_picture() -> None:
    alone, among = np.full((1, 1), 0.7, np.float32), np.array([[0.7, 9.0]], np.float32)
    assert np.array_equal(colours(alone)[0, 0], colours(among)[0, 0])


def test_one_wild_score_does_not_flatten_the_histogram() -> None:
    values = [*np.linspace(0, 1, 100), 1e6]
    chart = histogram([Series("good", "#000", values)], [(1.5, "alarm")], "score")
    assert chart.count("<rect") > 20


def test_equal_scores_still_draw() -> None:
    assert "<rect" in histogram([Series("good", "#000", [1.0] * 5)], [(1.0, "alarm")], "score")
