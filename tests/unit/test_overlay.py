"""What an operator sees must be true: red only where there is a defect, one scale for every picture."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stream import overlay
from stream.web.scene import FULL, LIVE, VIDEO, Look, Renderer
from tests.webline import inspection

AGAIN = settings(derandomize=True, max_examples=40, deadline=None)


def is_red(pixels: np.ndarray) -> np.ndarray:
    """Where the colour leans from grey to red: neither teal nor yellow does."""
    r, g, b = (pixels[..., i].astype(int) for i in range(3))
    return (r - g > 25) & (r - b > 25)


@AGAIN
@given(hnp.arrays(np.float32, (16, 20), elements=st.floats(-50, 50, width=32) | st.just(float("nan"))))
def test_a_part_without_a_defect_is_never_red(small: np.ndarray) -> None:
    good = inspection()
    object.__setattr__(good, "map_small", small)
    assert not is_red(overlay.draw(good)).any()


def test_the_alarm_level_is_where_red_begins() -> None:
    below, above = overlay.colour(np.array([0.99, 1.0], np.float32))[0]
    assert below[1] > 0.8 * below[0]
    assert above[1] < 0.4 * above[0]


def test_a_defect_is_red_inside_its_box_and_nowhere_else() -> None:
    box = (100, 80, 180, 140)
    red = is_red(overlay.draw(inspection(box=box)))
    assert red[84:136, 104:176].mean() > 0.95
    frame_px, label_px = 5, 30
    red[80 - label_px : 140 + frame_px, 100 - frame_px : 180 + frame_px] = False
    assert not red.any()


@AGAIN
@given(st.floats(0.4, 3.0), st.floats(0.4, 3.0))
def test_the_scale_is_the_same_whatever_else_the_picture_shows(level: float, other: float) -> None:
    box = (100, 80, 180, 140)
    alone, beside = inspection(box=box, level=level), inspection(box=box, level=level)
    beside.map_small[:8, :8] = other
    middle = np.s_[100:120, 120:160]
    assert (overlay.draw(alone)[middle] == overlay.draw(beside)[middle]).all()


def test_the_frame_itself_is_not_written_to() -> None:
    looked_at = inspection(box=(10, 10, 50, 50))
    before = looked_at.frame.pixels.copy()
    overlay.draw(looked_at)
    assert (looked_at.frame.pixels == before).all()


def test_a_box_sits_where_the_defect_is_after_shrinking() -> None:
    picture = overlay.draw(inspection(box=(400, 200, 600, 300), size=(1280, 720)), max_width_px=640)
    assert picture.shape == (360, 640, 3)
    assert is_red(picture[110:140, 210:290]).mean() > 0.95


def test_a_small_picture_is_not_blown_up() -> None:
    assert overlay.draw(inspection(), max_width_px=960).shape == (240, 320, 3)


@AGAIN
@given(st.tuples(*[st.integers(-20, 400)] * 4))
def test_a_box_at_or_over_the_edge_is_drawn_without_complaint(box: tuple[int, int, int, int]) -> None:
    made = inspection(box=(0, 0, 320, 240))
    defect = made.defects[0]
    object.__setattr__(
        defect, "box", (min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3]))
    )
    assert overlay.draw(made).shape == (240, 320, 3)


def test_an_absence_says_what_since_when_and_why() -> None:
    absence = overlay.Absence("OFFLINE", "The camera does not answer.", since=1000.0)
    early, late = overlay.absent(absence, now=1075.0), overlay.absent(absence, now=4600.0)
    assert early.shape == (480, 640, 3)
    assert (early != late).any()
    assert (early != overlay.absent(overlay.Absence("OFFLINE", "", 1000.0), now=1075.0)).any()


def test_a_long_reason_stays_inside_the_picture() -> None:
    absence = overlay.Absence("OFFLINE", "no route to the camera " * 60 + "x" * 300, since=0.0)
    assert overlay.absent(absence, now=1.0).shape == (480, 640, 3)


@pytest.mark.parametrize("shape", [(70_000, 16, 3), (16, 70_000, 3), (20_000, 1200, 3)])
@pytest.mark.parametrize("look", [FULL, LIVE, VIDEO])
def test_the_longest_picture_that_may_be_sent_can_be_shown(look: Look, shape: tuple[int, int, int]) -> None:
    long = inspection(box=(0, 0, 16, 16))
    object.__setattr__(long, "frame", replace(long.frame, pixels=np.zeros(shape, np.uint8)))
    shown = Renderer("top", look, 80).render(long, 0.0, 0.0, True)
    assert shown.jpeg or shown.video


def test_durations_are_said_in_two_units_at_most() -> None:
    said = [overlay.duration_text(s) for s in (-5, 0, 59, 75, 3600, 93784)]
    assert said == ["0 s", "0 s", "59 s", "1 min 15 s", "1 h 0 min", "1 d 2 h"]


def test_a_jpeg_keeps_red_red() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    back = cv2.imdecode(np.frombuffer(overlay.encode_jpeg(red), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert back[..., 0].mean() > 190
    assert back[..., 2].mean() < 15
