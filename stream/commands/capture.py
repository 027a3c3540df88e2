"""`linewatch capture CAMERA --frames N`: good pictures from the live stream, for training."""

import argparse
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..collection import Captured

HELP = "collect good pictures from a live camera"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("camera", help="a camera of the config file")
    parser.add_argument("--frames", type=_count, default=200, help="how many pictures (200)")
    parser.add_argument(
        "--every", type=float, default=0.5, metavar="SECONDS", help="at most one in so long (0.5)"
    )
    parser.add_argument("--config", help="the config file (LINEWATCH_CONFIG, else ./cameras.yaml)")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")


def main(args: argparse.Namespace) -> int:
    import asyncio
    import functools

    from config.load import load

    from ..capture import Capture
    from ..sources.base import build

    settings = load(args.config)
    if args.camera not in settings.cameras:
        known = ", ".join(sorted(settings.cameras)) or "none"
        print(
            f"linewatch: there is no camera {args.camera!r} in the config; there are: {known}",
            file=sys.stderr,
        )
        return 2
    folder = settings.pictures.dir / args.camera / "good"
    make_source = functools.partial(build, args.camera, settings.cameras[args.camera].source)

    async def collect() -> "Captured":
        capture = Capture(
            args.camera,
            make_source,
            folder,
            frames=args.frames,
            every_s=args.every,
            on_progress=_progress(args.frames),
        )
        return await capture.run()

    captured = asyncio.run(collect())
    _report(captured, str(folder), args)
    return 0 if captured.written >= args.frames else 1


def _report(captured: "Captured", folder: str, args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps({"written": captured.written, "skipped": captured.skipped, "folder": folder}))
        return
    skipped = ", ".join(f"{count} {why}" for why, count in captured.skipped.items()) or "none"
    print(f"{captured.written} of {args.frames} pictures written to {folder}; skipped: {skipped}")


def _progress(frames: int) -> "Callable[[Captured], None]":
    """A running count on stderr, only for a terminal."""
    if not sys.stderr.isatty():
        return lambda captured: None

    def show(captured: "Captured") -> None:
        end = "\n" if captured.written >= frames else ""
        skipped = sum(captured.skipped.values())
        print(
            f"\r{captured.written}/{frames} written, {skipped} skipped ", end=end, file=sys.stderr, flush=True
        )

    return show


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("expected 1 or more")
    return count
