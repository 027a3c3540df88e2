"""`make_model`: a folder of good pictures in, an artifact out. A list of steps, each in a file of its own."""

import math
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.artifact import Artifact
from engine.calibration import Calibration
from engine.choose import choose_device
from engine.images import Pixels, to_device
from engine.model.dmdd import SIZES, CameraNetwork, build_network
from engine.model.precision import autocast
from engine.model.teacher import TEACHERS, Teacher, build_teacher
from engine.tiles import ONE, Tiling
from engine.zones import EVERYWHERE, Areas

from . import synthesis as synth
from .advice import advise, short, stand_alone
from .bank import build_bank
from .calibrate import Predict, calibrate, counted, within
from .checkpoint import Checkpoint, fingerprint
from .dataset import HELD_OUT_RULE, GoodPictures, good_folder, load_good
from .errors import DataError
from .foreground import find_foregrounds
from .input_px import check_input_px
from .join import MIX, Joined, fit_join
from .odd import odd_pictures
from .origin import digest_of
from .pace import settle_threads
from .squares import squares_of
from .textures import load_textures
from .train import Material, Schedule, student_loss, train_head, train_student

STEPS_ON_CPU, STEPS_ON_GPU = 900, 6000
# A student that sees a copy much more often than this knows it by heart; in a short training few copies do.
_DRAWS_A_COPY, _LEAST_COPIES, _MOST_COPIES = 15, 4, 12
_UNSEEN_TEXTURE_SHARE = 0.15
# Of pictures in tiles: what training learns from, what the join is fitted on, what goes through at once.
_TRAINED_SQUARES, _JOINED_SQUARES, _CHUNK = 960, 120, 8
# Good pictures whose preparation one notices.
_MANY = 300

# (stage in words, steps done, steps in all, loss)
OnProgress = Callable[[str, int, int, float], None]
Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the person asked for. `steps` None = by device; `device` "auto", "cpu", "cuda" or "cuda:n".

    `areas` are the camera's: they decide what counts for the alarm level, not what is learnt.
    """

    name: str
    data: Path
    size: str = "lite"
    teacher: str | None = None
    teacher_weights: Path | None = None
    steps: int | None = None
    seed: int = 0
    device: str = "auto"
    input_px: int = 256
    textures: Path | None = None
    foreground: str = "auto"
    tiles: str = ONE
    areas: Areas = EVERYWHERE

    @property
    def tiling(self) -> Tiling:
        return Tiling.of(self.input_px, self.tiles)


def make_model(wish: Wish, on_progress: OnProgress, note: Note, keep: Path | None = None) -> Artifact:
    """Train, join, calibrate. Raises TrainerError and EngineError, one sentence each.

    Nothing is written but `keep`, a file from which the same wish goes on after a kill, with as many threads
    as it had; the caller deletes it once the model is saved. The same wish on the same machine with as many
    threads gives the same weights on a CPU.
    """
    _check(wish)
    begin = time.monotonic()
    device = choose_device(wish.device)
    good = load_good(wish.data, wish.input_px, wish.tiles)
    digests = sorted({digest_of(good_folder(wish.data) / name) for name in good.names})
    teacher = build_teacher(SIZES[wish.size].teacher, wish.teacher_weights).to(device)
    odd = odd_pictures(good.squeezed(wish.input_px), teacher, device)
    odd_names = [name for name, is_odd in zip(good.names, odd, strict=True) if is_odd]
    schedule = Schedule.of(wish.steps or (STEPS_ON_GPU if device.type == "cuda" else STEPS_ON_CPU))
    said = (*stand_alone(odd_names), *short(schedule.steps), *advise(good.names, good.pixels))
    good = replace(good, notes=(*good.notes, *said))
    for sentence in good.notes:
        note(sentence)
    if len(good) >= _MANY:
        note(f"{len(good):,} pictures are prepared before the first step, which may take some minutes.")
    training, held_out = good.split(odd)
    torch.manual_seed(wish.seed)
    network = build_network(wish.size).to(device)
    textures = load_textures(wish.textures, wish.input_px, note)
    material, unseen = _material(wish, training, textures, schedule, teacher, device)
    network.strength.copy_(material.bank.strength())
    note(f"Foreground: {material.foregrounds.why}.")
    learnt = replace(wish, areas=EVERYWHERE)
    words = {"wish": learnt, "names": good.names, "schedule": schedule, "teacher": teacher.sha256}
    checkpoint = Checkpoint(keep, fingerprint([good.pixels, *textures], **words))
    if resumed := checkpoint.resume(network):
        note(resumed)
    if device.type == "cpu":
        if checkpoint.threads:
            torch.set_num_threads(checkpoint.threads)
        else:
            _settle_threads(network, material, schedule, note)
        checkpoint.threads = torch.get_num_threads()
    _train(network, material, schedule, on_progress, checkpoint)
    foregrounds = find_foregrounds(held_out.pixels, material.foregrounds.mode)
    shown = squares_of(held_out.pixels, foregrounds, wish.tiling, _JOINED_SQUARES, wish.seed)
    joined = fit_join(network, teacher, shown.pixels, shown.foregrounds, unseen, device, wish.seed)
    predict = within(predictor(network, teacher, device, wish.tiling), wish.areas)
    calibration = calibrate(predict, list(held_out.pixels), input_px=wish.input_px)
    made = _made_of(wish, training, held_out, material, schedule, joined, device, time.monotonic() - begin)
    made["trained_on"] |= {"odd": odd_names, "sha256": digests}
    return _artifact(wish, network, teacher, calibration, made)


def predictor(network: CameraNetwork, teacher: Teacher, device: torch.device, tiling: Tiling) -> Predict:
    """Pictures (h, w, 3) uint8 of the tiling's canvas → raw maps (n, h, w) float32, in the precision of the
    runner."""

    @torch.inference_mode()
    def predict(pictures: Sequence[Pixels]) -> NDArray[np.float32]:
        squares = [square for picture in pictures for square in tiling.cut(picture)]
        maps = []
        for start in range(0, len(squares), _CHUNK):
            images = to_device(squares[start : start + _CHUNK], device)
            with autocast(device):
                maps.append(network(images, teacher(images)).float())
        return np.asarray(tiling.stitch(torch.cat(maps)).cpu().numpy(), dtype=np.float32)

    network.eval()
    return predict


def _check(wish: Wish) -> None:
    if wish.size not in SIZES:
        raise DataError(f"--size {wish.size!r}: expected one of {', '.join(SIZES)}.")
    if wish.teacher not in (None, SIZES[wish.size].teacher):
        raise DataError(
            f"--teacher {wish.teacher!r} doesn't fit --size {wish.size}, which has "
            f"{SIZES[wish.size].teacher}; "
            f"sizes and teachers: {', '.join(f'{s.name} = {s.teacher}' for s in SIZES.values())}."
        )
    if wish.steps is not None and wish.steps < 2:
        raise DataError(f"--steps {wish.steps}: expected at least 2, one for each stage.")
    if not 0 <= wish.seed < 2**32:
        raise DataError(f"--seed {wish.seed}: expected a whole number from 0 to {2**32 - 1}.")
    check_input_px(wish.input_px)
    try:
        canvas = wish.tiling.canvas
    except ValueError as error:
        raise DataError(f"--tiles: {error}.") from error
    counted(wish.areas, canvas)


def _material(
    wish: Wish,
    training: GoodPictures,
    textures: Sequence[Pixels],
    schedule: Schedule,
    teacher: Teacher,
    device: torch.device,
) -> tuple[Material, synth.Synthesis]:
    """What training draws from, and the synthesis of what it never draws."""
    # The shipped textures are too few to keep one back.
    drawn, unseen = synth.syntheses(textures, 0.0 if wish.textures is None else _UNSEEN_TEXTURE_SHARE)
    whole = find_foregrounds(training.pixels, wish.foreground)
    squares = squares_of(training.pixels, whole, wish.tiling, _TRAINED_SQUARES, wish.seed)
    drawn_each = schedule.student_steps * schedule.batch / len(squares.pixels)
    copies = min(_MOST_COPIES, max(_LEAST_COPIES, round(drawn_each / _DRAWS_A_COPY)), math.ceil(drawn_each))
    bank = build_bank(squares.pixels, teacher, device, copies=copies, rng=np.random.default_rng(wish.seed))
    return Material(bank, squares.foregrounds, drawn, teacher, device, wish.seed), unseen


def _settle_threads(network: CameraNetwork, material: Material, schedule: Schedule, note: Note) -> None:
    twin, most = deepcopy(network), torch.get_num_threads()

    def step() -> None:
        student_loss(twin, material, schedule, 0).backward()  # type: ignore[no-untyped-call]

    if (chosen := settle_threads(step)) < most:
        note(
            f"{chosen} of {most} threads train faster here, and are taken: others use this machine's cores, "
            "or this container may use no more of them."
        )


def _train(
    network: CameraNetwork,
    material: Material,
    schedule: Schedule,
    on_progress: OnProgress,
    checkpoint: Checkpoint,
) -> None:
    first, total = schedule.student_steps, schedule.steps

    def on_student(step: int, loss: float) -> None:
        on_progress("student", step + 1, total, loss)

    def on_head(step: int, loss: float) -> None:
        on_progress("head", first + step + 1, total, loss)

    train_student(network, material, schedule, on_student, checkpoint)
    train_head(network, material, schedule, on_head, checkpoint)


def _made_of(
    wish: Wish,
    training: GoodPictures,
    held_out: GoodPictures,
    material: Material,
    schedule: Schedule,
    joined: Joined,
    device: torch.device,
    seconds: float,
) -> dict[str, dict[str, Any]]:
    trained_on = {
        "folder": str(wish.data.resolve()),
        "good_pictures": len(training) + len(held_out),
        "training": list(training.names),
        "held_out": list(held_out.names),
        "held_out_rule": HELD_OUT_RULE,
        "areas": wish.areas.to_json(),
        "foreground": material.foregrounds.why,
        "notes": list(training.notes),
        "seconds": round(seconds, 1),
        "device": describe(device),
    }
    config = {
        **asdict(schedule),
        "seed": wish.seed,
        "steps": schedule.steps,
        "bank_copies": int((material.bank.source == 0).sum()),
        "textures": str(wish.textures or "scikit-image"),
        "mix": asdict(MIX),
        "teacher_normalisation": {
            "mean": TEACHERS[SIZES[wish.size].teacher].mean,
            "std": TEACHERS[SIZES[wish.size].teacher].std,
        },
    }
    metrics = {"synthetic_ap": joined.validation_ap, "synthetic_pro": joined.validation_pro}
    return {"trained_on": trained_on, "config": config, "metrics": metrics}


def _artifact(
    wish: Wish,
    network: CameraNetwork,
    teacher: Teacher,
    calibration: Calibration,
    made: dict[str, dict[str, Any]],
) -> Artifact:
    return Artifact(
        name=wish.name,
        size=wish.size,
        input_px=wish.input_px,
        teacher=teacher.name,
        teacher_sha256=teacher.sha256,
        state=network.state_dict(),
        calibration=calibration,
        trained_on=made["trained_on"],
        config=made["config"],
        metrics=made["metrics"],
        tiles=wish.tiles,
    )


def describe(device: torch.device) -> str:
    """The device in words that a manifest keeps."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)"
