"""`linewatch train NAME --data DIR`: good pictures in, the next version of NAME's model out."""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .places import add_models, areas_of, areas_said, camera_named, has_config, models_folder, teacher_file

if TYPE_CHECKING:
    from config.settings import CameraSettings
    from engine.artifact import Artifact

    from ..recipe import OnProgress, Wish
    from ..report import Report

HELP = "train a camera's model from good pictures"

_EVERY_S = 60.0
# Manifest and report.
_BESIDES_MB = 2.0
_LESS = "take a smaller --input-px or --size, fewer --tiles or fewer pictures"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="the model's name, by habit the camera's")
    parser.add_argument(
        "--data", type=Path, required=True, help="a folder of good pictures, or an MVTec layout (train/good)"
    )
    parser.add_argument("--size", help="lite, r18, wide-lite or wide (the camera's in the config, else lite)")
    parser.add_argument("--teacher", help="the size's own teacher; said again, to be sure")
    parser.add_argument(
        "--teacher-weights", type=Path, metavar="FILE", help="weights that come in no package"
    )
    parser.add_argument("--steps", type=int, help="training steps (900 on a CPU, 6000 on a GPU)")
    parser.add_argument("--seed", type=int, default=0, help="same seed and threads, same model (0)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (auto)")
    parser.add_argument("--input-px", type=int, help="side of the network's picture (the camera's, else 256)")
    parser.add_argument(
        "--tiles", metavar="ROWSxCOLUMNS", help="look at large pictures in tiles (the camera's, else 1x1)"
    )
    parser.add_argument(
        "--textures", type=Path, metavar="DIR", help="texture pictures, such as DTD (scikit-image's three)"
    )
    parser.add_argument(
        "--foreground", choices=("auto", "on", "otsu", "off"), default="auto", help="find the part"
    )
    parser.add_argument(
        "--areas",
        metavar="JSON",
        help="for programs: what counts for the alarm level (the camera's roi, masks)",
    )
    parser.add_argument("--no-promote", action="store_true", help="leave `latest` where it is")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument(
        "--progress", action="store_true", help="for programs: a JSON line on stdout each second at work"
    )
    add_models(parser)


def main(args: argparse.Namespace) -> int:
    from engine import artifact
    from engine.versions import check_name

    begin = time.monotonic()
    if args.progress:  # a program ends it by SIGTERM: what was begun is cleared away, as after Ctrl-C
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    check_name(args.name)
    models = models_folder(args)
    _check_writable(models / args.name)
    if not has_config(args):
        _note(f"No config file is here: the model goes to {models.resolve()}. --config names one.")
    folder = _train(args, models)
    saved = artifact.load(folder)
    _present(saved, folder, args)
    report = _report(saved, folder, time.monotonic() - begin)
    if args.json:
        print(json.dumps(report))
    else:
        print(
            f"{report['artifact']}: {report['steps']} steps in {report['seconds']:.0f} s on "
            f"{report['device']}, "
            f"{report['good_pictures']} good pictures, threshold {report['threshold']:.3f}"
        )
    return 0


def _check_writable(home: Path) -> None:
    """Raises DataError if nothing can be written to `home`, or to where it would be made: better before
    training than after.
    """
    from ..errors import DataError

    try:
        for link in (folder for folder in (home, *home.parents) if folder.is_symlink()):
            if not link.exists():
                raise DataError(
                    f"The model's folder {home} can't be made: {link} leads to {link.readlink()}, which "
                    "isn't there. Mount its disk, or name another folder with --models; nothing was trained."
                )
        home = home.resolve()
        there = next(folder for folder in (home, *home.parents) if folder.exists())
        with tempfile.NamedTemporaryFile(prefix=".probe-", dir=there):
            pass
    except OSError as error:
        raise DataError(
            f"The model's folder {home} can't be written to: {error.strerror}. Mend that, or name another "
            "folder with --models; nothing was trained."
        ) from error


def _check_room(home: Path, size: str) -> None:
    """Raises DataError if the model can't fit on the disk of `home`."""
    from engine.model.cost import costs
    from engine.model.dmdd import SIZES

    from ..errors import DataError

    if size not in SIZES:  # make_model refuses it
        return
    parts = costs(size)
    needed_mb = _BESIDES_MB + 4 * (parts["student"].parameters_m + parts["head"].parameters_m)
    disk = shutil.disk_usage(home)
    # Of no size at all: a file system that doesn't tell.
    if disk.total and (free_mb := disk.free / 1e6) < needed_mb:
        raise DataError(
            f"The model takes about {needed_mb:.0f} MB and the disk of {home} has {free_mb:.0f} MB left: "
            "make room, or name another folder with --models; nothing was trained."
        )


def _train(args: argparse.Namespace, models: Path) -> Path:
    """The folder of the new version. Says what is left where it is interrupted."""
    from engine import artifact

    from ..alone import alone
    from ..checkpoint import stamp
    from ..memory import enough_memory
    from ..recipe import make_model

    home = models / args.name
    keep = home / ".training.safetensors"
    with alone(home):
        before, wish = stamp(keep), _wish(args)
        _check_room(home, wish.size)
        try:
            with _Bar() as bar, enough_memory(f"train {args.name}", _LESS):
                on_progress = _Lines().on_progress if args.progress else bar.on_progress
                made = make_model(wish, on_progress, _note, keep)
            folder = artifact.save(made, models, promote=not args.no_promote)
        except KeyboardInterrupt:
            _note(_what_is_left(keep, before))
            raise
        keep.unlink(missing_ok=True)
        return folder


def _what_is_left(keep: Path, before: int) -> str:
    """`before`: the stamp of `keep` before this training."""
    from ..checkpoint import stamp

    if stamp(keep) != before:
        return "Earlier versions are untouched, and the same command goes on from where it was saved last."
    other = ", and what is kept of an earlier training is still there" if before else ""
    return f"Earlier versions are untouched; of this training nothing was saved yet{other}."


def _wish(args: argparse.Namespace) -> "Wish":
    from engine.model.dmdd import SIZES

    from ..recipe import Wish

    camera = _camera(args)
    size, input_px, tiles = _meant_for(args, camera)
    teacher = SIZES[size].teacher if size in SIZES else ""  # make_model refuses an unknown size
    return Wish(
        name=args.name,
        data=args.data,
        size=size,
        teacher=args.teacher,
        teacher_weights=teacher_file(args, teacher),
        steps=args.steps,
        seed=args.seed,
        device=args.device,
        input_px=input_px,
        textures=args.textures,
        foreground=args.foreground,
        tiles=tiles,
        areas=areas_of(camera) if args.areas is None else areas_said(args.areas),
    )


def _camera(args: argparse.Namespace) -> "CameraSettings | None":
    """What the config says of the camera, where something is left to ask a config that may be broken."""
    all_said = args.size and args.input_px and args.tiles and args.areas is not None
    return None if all_said else camera_named(args, args.name)


def _meant_for(args: argparse.Namespace, camera: "CameraSettings | None") -> tuple[str, int, str]:
    """Size, input_px and tiles: what was said on the line, else of the camera in the config, else the
    default."""
    size, input_px, tiles = "lite", 256, "1x1"
    if camera is not None:
        size, input_px, tiles = camera.model.size, camera.model.input_px, camera.tiles or tiles
    return args.size or size, input_px if args.input_px is None else args.input_px, args.tiles or tiles


def _report(made: "Artifact", folder: Path, seconds: float) -> dict[str, object]:
    from ..evaluate import FALSE_ALARMS_PER_HOUR, FPS, ON_FRAMES

    return {
        "artifact": str(folder),
        "version": made.version,
        "steps": made.config["steps"],
        "seconds": round(seconds, 1),
        "device": made.trained_on["device"],
        "good_pictures": made.trained_on["good_pictures"],
        "threshold": made.calibration.threshold(FALSE_ALARMS_PER_HOUR, FPS, ON_FRAMES),
    }


def _present(saved: "Artifact", folder: Path, args: argparse.Namespace) -> None:
    """report.html beside the model, and a word on good pictures that may not be good.

    The model is saved: an interruption, or too little memory, costs no more than the report.
    """
    from engine.choose import choose_device

    from ..predict import model_of
    from ..present import REPORT, keep_report, known_stray, present

    def make() -> "Report":
        predict = model_of(saved, choose_device(args.device), teacher_file(args, saved.teacher))
        warnings = known_stray(saved, predict, folder)
        for sentence in warnings:
            _note(sentence)
        return present(saved, predict, warnings=warnings)

    try:
        for sentence in keep_report(make, folder / REPORT):
            _note(sentence)
    except KeyboardInterrupt:
        name = f"{saved.name}@{saved.version}"
        kept = "is saved" if args.no_promote else "is saved and in use"
        _note(
            f"{name} {kept}; only its report is missing, which `linewatch evaluate {name} --data FOLDER` "
            "makes with test pictures."
        )


def _note(sentence: str) -> None:
    print(sentence, file=sys.stderr)


class _Bar:
    """A progress bar on stderr where a person looks at it; elsewhere a line a minute."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._watched = sys.stderr.isatty()
        self._bar = tqdm(disable=not self._watched, unit="step", file=sys.stderr, dynamic_ncols=True)
        self._first: tuple[int, float] | None = None
        self._next_at = time.monotonic() + _EVERY_S
        self.on_progress: OnProgress = self._show if self._watched else self._tell

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def _show(self, stage: str, done: int, total: int, loss: float) -> None:
        self._bar.total = total
        self._bar.set_description(stage, refresh=False)
        self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self._bar.update(done - self._bar.n)

    def _tell(self, stage: str, done: int, total: int, loss: float) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = done, now
        if now < self._next_at:
            return
        self._next_at = now + _EVERY_S
        steps, began = self._first
        left_s = (now - began) / max(done - steps, 1) * (total - done)
        _note(f"{stage}: step {done} of {total}, about {max(1, round(left_s / 60))} min left")


class _Lines:
    """Progress for a program that reads: the first step, the last one, and one a second between them."""

    def __init__(self) -> None:
        self._next_at = 0.0

    def on_progress(self, stage: str, done: int, total: int, loss: float) -> None:
        now = time.monotonic()
        if now >= self._next_at or done == total:
            self._next_at = now + 1.0
            told = {"stage": stage, "step": done, "steps": total, "loss": round(loss, 4)}
            print(json.dumps({"progress": told}), flush=True)
