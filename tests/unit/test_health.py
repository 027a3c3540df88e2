from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from stream.health import (
    Freshness,
    Health,
    HealthLimits,
    Held,
    Pixels,
    Rates,
    View,
    brightness,
    offset_px,
    sharpness,
    small_grey,
)
from stream.sources.rtsp import rgb

NOTHING = Rates()


def scene(seed: int = 0, size: tuple[int, int] = (640, 480)) -> Pixels:
    """Blocks with edges, (H, W, 3): something that can be blurred and moved."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(30, 220, (size[1] // 16, size[0] // 16, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(blocks, size, interpolation=cv2.INTER_NEAREST), dtype=np.uint8)


def kinds(health: Health, pixels: Pixels, rates: Rates = NOTHING, now: float = 0.0) -> list[str]:
    return [finding.kind for finding in health.update(small_grey(pixels), rates, now)]


def at_once(view: View | None = None) -> Health:
    return Health(HealthLimits(min_duration_s=0.0), view)


def view_of(pixels: Pixels) -> View:
    return View.of([small_grey(pixels)], (pixels.shape[1], pixels.shape[0]))


def test_a_good_picture_has_no_findings() -> None:
    assert kinds(at_once(view_of(scene())), scene()) == []


@pytest.mark.parametrize(("level", "kind"), [(3, "dark"), (253, "overexposed")])
def test_a_picture_without_light_or_with_too_much_is_said(level: int, kind: str) -> None:
    assert kinds(at_once(), np.full((480, 640, 3), level, np.uint8)) == [kind]


def test_blur_is_told_against_the_trained_view() -> None:
    soft = np.asarray(cv2.GaussianBlur(scene(), (0, 0), 6), dtype=np.uint8)
    assert kinds(at_once(view_of(scene())), soft) == ["blurred"]
    assert kinds(at_once(), soft) == []


def test_sharpness_does_not_depend_on_light() -> None:
    grey = small_grey(scene())
    assert sharpness((grey * 0.5).astype(np.uint8)) == pytest.approx(sharpness(grey), rel=0.05)


def test_a_moved_camera_is_said_with_its_offset_in_frame_pixels() -> None:
    wide = scene(size=(960, 720))
    view = view_of(wide[100:580, 100:740])
    at = offset_px(small_grey(wide[120:600, 60:700]), view)
    assert at == pytest.approx((40, -20), abs=3)
    (finding,) = at_once(view).update(small_grey(wide[120:600, 60:700]), NOTHING, 0.0)
    assert finding.kind == "moved"
    assert "train it again" in finding.text


def test_another_scene_has_no_offset() -> None:
    assert offset_px(small_grey(scene(1)), view_of(scene(2))) is None


def test_parts_that_move_past_a_still_camera_are_no_move() -> None:
    line = scene(size=(640, 480))
    view, health = view_of(line), at_once(view_of(line))
    said = []
    for n in range(20):
        picture = line.copy()
        picture[160:320, 30 * n : 30 * n + 120] = scene(9, (128, 160))[:, :120][:, : 640 - 30 * n]
        said += kinds(health, picture, now=float(n))
    assert said == []
    assert offset_px(small_grey(line), view) == pytest.approx((0, 0), abs=1)


def test_a_low_rate_and_a_drifting_clock_are_said() -> None:
    rates = Rates(wanted_fps=10, fps=4, clock_offset_s=-3600.0)
    assert kinds(at_once(), scene(), rates) == ["clock_drift", "low_rate"]


def test_a_limit_that_is_null_switches_its_check_off() -> None:
    health = Health(HealthLimits(dark_below=None, min_duration_s=0.0))
    assert kinds(health, np.zeros((480, 640, 3), np.uint8)) == []


def test_a_finding_holds_for_its_duration_before_it_is_said_or_taken_back() -> None:
    health = Health(HealthLimits(min_duration_s=5.0))
    dark, light = np.zeros((480, 640, 3), np.uint8), scene()
    said = [kinds(health, dark, now=t) for t in (0.0, 4.9, 5.0)]
    said += [kinds(health, light, now=t) for t in (6.0, 10.9, 11.0)]
    assert said == [[], [], ["dark"], ["dark"], ["dark"], []]


def test_a_value_at_the_limit_does_not_flicker() -> None:
    health = at_once()
    levels = (9, 11, 10, 11, 9, 11)  # the limit is 10.2
    assert all(kinds(health, np.full((48, 64, 3), level, np.uint8)) == ["dark"] for level in levels)


def test_what_comes_and_goes_too_fast_is_never_said() -> None:
    held = Held(hold_s=2.0)
    assert not any(held.update(n % 2 == 0, float(n)) for n in range(20))


def test_sensor_noise_is_new_content_and_a_repeat_is_not() -> None:
    rng = np.random.default_rng(0)
    noisy = [np.clip(scene() + rng.normal(0, 1.5, (480, 640, 3)), 0, 255).astype(np.uint8) for _ in range(2)]
    freshness = Freshness()
    assert [freshness.is_new(pixels) for pixels in (noisy[0], noisy[0], noisy[1], noisy[1])] == [
        True,
        False,
        True,
        False,
    ]


def test_slow_change_adds_up_to_new_content() -> None:
    freshness = Freshness(limit_levels=2.5)
    answers = [freshness.is_new(np.full((48, 64, 3), 100 + n, np.uint8)) for n in range(7)]
    assert answers == [True, False, False, True, False, False, True]


def test_one_picture_encoded_again_and_again_is_not_new_but_a_standing_scene_is() -> None:
    rng = np.random.default_rng(0)
    noisy = [
        np.clip(scene(size=(320, 240)) + rng.normal(0, 1.0, (240, 320, 3)), 0, 255).astype(np.uint8)
        for _ in range(80)
    ]
    frozen, standing = Freshness(), Freshness()
    assert not any([frozen.is_new(pixels) for pixels in h264([noisy[0]] * 80)][40:])
    assert any([standing.is_new(pixels) for pixels in h264(noisy)][60:])


def test_a_recording_that_is_looped_is_not_frozen() -> None:
    freshness = Freshness()
    assert all([freshness.is_new(scene(n % 5)) for n in range(20)])


def h264(pictures: list[Pixels]) -> list[Pixels]:
    """Encoded as a camera does it, a key picture every 20, and decoded."""
    encoder, decoder = av.CodecContext.create("libx264", "w"), av.CodecContext.create("h264", "r")
    assert isinstance(encoder, av.VideoCodecContext)
    assert isinstance(decoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = 320, 240, "yuv420p"
    encoder.time_base, encoder.gop_size = Fraction(1, 20), 20
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "20"}
    frames = [av.VideoFrame.from_ndarray(pixels, "rgb24") for pixels in pictures]
    for number, frame in enumerate(frames):
        frame.pts = number
    packets = [packet for frame in [*frames, None] for packet in encoder.encode(frame)]
    return [rgb(frame) for packet in packets for frame in decoder.decode(packet)]


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 4000, 3), (2160, 3840, 3), (3, 2, 3)])
def test_pictures_of_any_size_can_be_judged(shape: tuple[int, int, int]) -> None:
    pixels = np.full(shape, 128, np.uint8)
    grey = small_grey(pixels)
    assert max(grey.shape) <= 320
    assert brightness(grey) == pytest.approx(128 / 255, abs=0.01)
    assert kinds(at_once(view_of(pixels)), pixels) == []
    assert Freshness().is_new(pixels)
