"""`linewatch capture CAMERA --frames N`: good pictures from the live stream, for training."""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from .arguments import count, number, seconds

if TYPE_CHECKING:
    from ..collection import Captured
    from ..condition import CameraState

HELP = "collect good pictures from a live camera"

_COUNT_EVERY_S = 30.0
_CLEAR_REST = "\x1b[K"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("camera", help="a camera of the config file")
    parser.add_argument("--frames", type=count, default=200, help="how many pictures (200)")
    parser.add_argument(
        "--every", type=_interval, default=0.5, metavar="SECONDS", help="at most one in so long (0.5)"
    )
    parser.add_argument(
        "--give-up",
        type=seconds,
        default=60.0,
        metavar="SECONDS",
        help="end when nothing new could be kept for so long (60)",
    )
    parser.add_argument("--config", help="the config file (LINEWATCH_CONFIG, else ./cameras.yaml)")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")


def main(args: argparse.Namespace) -> int:
    import asyncio
    import functools

    from config.load import load

    from ..capture import Capture, CaptureError
    from ..reading import is_sent_to
    from ..sources.base import build

    settings = load(args.config)
    if args.camera not in settings.cameras:
        known = ", ".join(sorted(settings.cameras)) or "none"
        print(
            f"linewatch: there is no camera {args.camera!r} in the config; there are: {known}",
            file=sys.stderr,
        )
        return 2
    if is_sent_to(settings.cameras[args.camera].source):
        why = "its pictures are sent to a running line only: collect them on the page"
        print(f"linewatch: camera {args.camera!r}: {why}", file=sys.stderr)
        return 2
    folder = settings.pictures.dir / args.camera / "good"
    progress = Progress(args.frames, sys.stderr)
    capture = Capture(
        args.camera,
        functools.partial(build, args.camera, settings.cameras[args.camera].source),
        folder,
        frames=args.frames,
        every_s=args.every,
        patience_s=args.give_up,
        on_progress=progress.count,
        on_state=progress.state,
    )
    try:
        captured = asyncio.run(capture.run())
    except OSError as error:
        raise CaptureError(
            f"no pictures can be written to {folder}: {error.strerror}; let this user write there, or name "
            "another pictures.dir"
        ) from error
    finally:
        progress.end()
    if args.json:
        print(json.dumps({"written": captured.written, "skipped": captured.skipped, "folder": str(folder)}))
    else:
        print(summary(captured, capture.state, str(folder), args.frames, args.give_up))
    return 0 if captured.written >= args.frames else 1


def summary(captured: "Captured", state: "CameraState", folder: str, frames: int, give_up_s: float) -> str:
    """The last line: what was written, why no more, and what would give other pictures."""
    skipped = ", ".join(f"{count} {why}" for why, count in captured.skipped.items()) or "none"
    told = f"{captured.written} of {frames} pictures written to {folder}; skipped: {skipped}"
    if captured.written < frames:
        quiet = f"nothing new to keep for {give_up_s:g} s"
        told += f"; {state.camera} gave no more: {quiet if state.state == 'live' else state.words}"
    if captured.skipped.get("duplicate", 0) > captured.written:
        told += "; most pictures were like one before: give a longer --every, about as long as a part is seen"
    return told


class Progress:
    """What is told on stderr meanwhile: a line for each other state of the camera, and how many there are:
    on a terminal by a last line that is renewed, elsewhere by a line now and then.
    """

    def __init__(self, frames: int, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._frames, self._out, self._clock = frames, out, clock
        self._terminal = out.isatty()
        self._count = self._words = ""
        self._told_at = clock()

    def state(self, state: "CameraState") -> None:
        """Another state, or another reason for it."""
        if state.words in ("connecting", self._words):  # each attempt begins so: no news
            return
        self._words = state.words
        self._renew("")
        print(f"{state.camera} is {state.words}", file=self._out, flush=True)
        self._renew(self._count)

    def count(self, captured: "Captured") -> None:
        """Called twice a second or more often."""
        skipped = sum(captured.skipped.values())
        self._count = f"{captured.written}/{self._frames} written, {skipped} skipped"
        self._renew(self._count)
        if not self._terminal and self._clock() - self._told_at >= _COUNT_EVERY_S:
            self._told_at = self._clock()
            print(self._count, file=self._out, flush=True)

    def end(self) -> None:
        """What is said next begins on a line of its own."""
        if self._terminal and self._count:
            print(file=self._out, flush=True)

    def _renew(self, text: str) -> None:
        if self._terminal:
            print(f"\r{text}{_CLEAR_REST}", end="", file=self._out, flush=True)


def _interval(text: str) -> float:
    said = number(text)
    if not 0 <= said < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds, 0 or more")
    return said
