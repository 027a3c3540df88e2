"""False alarms on good parts that a model never saw: `python -m tests.bench.new_parts`.

The pattern line as the demo's cameras film it: a picture of each of 60 good parts to learn from, 300 steps,
the level for one false alarm an hour; then the level after `linewatch calibrate` with 120 further parts. New
good parts come at five pictures a second, sliding in and out included, as the running line sees them; an
alarm is two pictures in a row above the level.
"""

import argparse
import tempfile
from itertools import groupby
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from engine.choose import choose_device
from engine.images import to_square
from stream.demo.stage import CAMERA_FPS, FPS, PATTERN_CAMERAS
from stream.sim.encoder import Encoder
from stream.sim.line import CYCLE_S, SLIDE_S
from stream.sim.shows import PatternShow
from trainer.calibrate import maps_of, region_score
from trainer.predict import model_of
from trainer.recalibrate import recalibrate
from trainer.recipe import Wish, make_model

SIZE, LEARNT, FURTHER, ON_FRAMES = (640, 480), 60, 120, 2
# Long after what was learnt; the line's parts differ by their number.
_FURTHER_FROM_S, _NEW_FROM_S = 2000.0, 4000.0


def filmed(show: PatternShow, at_s: float) -> NDArray[np.uint8]:
    """(480, 640, 3) uint8 RGB, through the camera's H.264."""
    nals = Encoder(SIZE, CAMERA_FPS).encode(show.picture(at_s), 0, key=True)
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, VideoCodecContext)
    packet = av.Packet(b"".join(b"\0\0\0\1" + nal for nal in nals))
    [frame] = [*decoder.decode(packet), *decoder.decode(None)]
    return np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)


def keep_pictures(show: PatternShow, from_s: float, count: int, folder: Path) -> None:
    """A picture of each of so many parts."""
    for number in range(count):
        picture = filmed(show, from_s + number * CYCLE_S)
        cv2.imwrite(str(folder / f"{number:03d}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", type=int, default=120)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    args = parser.parse_args()
    per = "level | standing parts above | alarms in parts"
    print(f"| camera, seed | held-out median, highest | new, standing | {per} | further parts: {per} |")
    print("|---" * 9 + "|")
    for seed in args.seeds:
        for index, (camera, look) in enumerate(PATTERN_CAMERAS.items()):
            show = PatternShow(look, seed + index, SIZE)
            show.set_phase("learn", 0.0)
            print(_line(camera, show, seed, args), flush=True)


def _line(camera: str, show: PatternShow, seed: int, args: argparse.Namespace) -> str:
    phase_s = np.random.default_rng(seed).uniform(0.0, CYCLE_S)
    with tempfile.TemporaryDirectory() as learnt, tempfile.TemporaryDirectory() as further:
        keep_pictures(show, phase_s, LEARNT, Path(learnt))
        keep_pictures(show, _FURTHER_FROM_S + phase_s, FURTHER, Path(further))
        made = make_model(Wish(camera, Path(learnt), steps=args.steps, seed=seed), lambda *_: None, print)
        predict = model_of(made, choose_device("auto"))
        firmer = recalibrate(made, predict, Path(further), made.areas).model
    moments = [_NEW_FROM_S + n / FPS for n in range(round(args.parts * CYCLE_S * FPS))]
    pictures = [to_square(filmed(show, at_s), made.input_px) for at_s in moments]
    scores = np.array([region_score(m, made.calibration.min_area_px) for m in maps_of(predict, pictures)])
    stands = np.array([at_s - show.shot(at_s).from_s > SLIDE_S for at_s in moments])
    cells = [f"{camera}, {seed}", f"{made.calibration.median:.1f}, {made.calibration.highest:.1f}"]
    cells.append(f"{np.median(scores[stands]):.1f}, {scores[stands].max():.1f}")
    for calibration in (made.calibration, firmer.calibration):
        level = calibration.threshold(1.0, FPS, ON_FRAMES)
        above = scores > level
        cells += [f"{level:.1f}", f"{above[stands].mean():.2%}", f"{_alarms(above)} in {args.parts}"]
    return f"| {' | '.join(cells)} |"


def _alarms(above: NDArray[np.bool_]) -> int:
    """How often pictures in a row are above the level for the first time."""
    return sum(len(list(run)) >= ON_FRAMES for is_above, run in groupby(above) if is_above)


if __name__ == "__main__":
    main()
