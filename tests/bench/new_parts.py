"""False alarms on good parts that a model never saw: `python -m tests.bench.new_parts`.

The pattern line as the demo's cameras film it: a picture of each of 60 good parts to learn from, 300 steps,
the level for one false alarm an hour. Then so many new good parts at five pictures a second, sliding in and
out included, as the running line sees them; an alarm is two (or three) pictures in a
row above the level.
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

from engine.artifact import Artifact
from stream.demo.stage import CAMERA_FPS, FPS, PATTERN_CAMERAS
from stream.sim.encoder import Encoder
from stream.sim.line import CYCLE_S, SLIDE_S
from stream.sim.shows import PatternShow
from trainer.calibrate import maps_of, region_score
from trainer.dataset import to_square
from trainer.predict import model_of
from trainer.recipe import Wish, choose_device, make_model

SIZE, LEARNT = (640, 480), 60
ON_FRAMES = (2, 3)
# Long after what was learnt; the line's parts differ by their number.
_NEW_FROM_S = 4000.0


def filmed(show: PatternShow, at_s: float) -> NDArray[np.uint8]:
    """(480, 640, 3) uint8 RGB, through the camera's H.264."""
    nals = Encoder(SIZE, CAMERA_FPS).encode(show.picture(at_s), 0, key=True)
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, VideoCodecContext)
    packet = av.Packet(b"".join(b"\0\0\0\1" + nal for nal in nals))
    [frame] = [*decoder.decode(packet), *decoder.decode(None)]
    return np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)


def trained(camera: str, show: PatternShow, steps: int, seed: int) -> Artifact:
    phase_s = np.random.default_rng(seed).uniform(0.0, CYCLE_S)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(LEARNT):
            picture = filmed(show, phase_s + number * CYCLE_S)
            cv2.imwrite(f"{folder}/{number:03d}.png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        wish = Wish(camera, Path(folder), steps=steps, seed=seed)
        return make_model(wish, lambda *_: None, print)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", type=int, default=120)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    args = parser.parse_args()
    per = " | ".join(f"level, {n} in a row | standing parts above | alarms in parts" for n in ON_FRAMES)
    print(f"| camera, seed | held-out median, highest | new, standing | {per} |")
    print("|---" * (3 + 3 * len(ON_FRAMES)) + "|")
    for seed in args.seeds:
        for index, (camera, look) in enumerate(PATTERN_CAMERAS.items()):
            show = PatternShow(look, seed + index, SIZE)
            show.set_phase("learn", 0.0)
            made = trained(camera, show, args.steps, seed)
            print(_line(f"{camera}, {seed}", made, show, args.parts), flush=True)


def _line(name: str, made: Artifact, show: PatternShow, parts: int) -> str:
    moments = [_NEW_FROM_S + n / FPS for n in range(round(parts * CYCLE_S * FPS))]
    pictures = [to_square(filmed(show, at_s), made.input_px) for at_s in moments]
    predict = model_of(made, choose_device("auto"))
    scores = np.array([region_score(m, made.calibration.min_area_px) for m in maps_of(predict, pictures)])
    stands = np.array([at_s - show.shot(at_s).from_s > SLIDE_S for at_s in moments])
    held_out = f"{made.calibration.median:.1f}, {made.calibration.highest:.1f}"
    cells = [name, held_out, f"{np.median(scores[stands]):.1f}, {scores[stands].max():.1f}"]
    for on_frames in ON_FRAMES:
        level = made.calibration.threshold(1.0, FPS, on_frames)
        above = scores > level
        cells += [f"{level:.1f}", f"{above[stands].mean():.2%}", f"{_alarms(above, on_frames)} in {parts}"]
    return f"| {' | '.join(cells)} |"


def _alarms(above: NDArray[np.bool_], on_frames: int) -> int:
    """How often so many pictures in a row are above the level for the first time."""
    return sum(len(list(run)) >= on_frames for is_above, run in groupby(above) if is_above)


if __name__ == "__main__":
    main()
