"""`linewatch bench`: how many frames a second this machine inspects, how near that is to the bare network."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import count, seconds

if TYPE_CHECKING:
    from ..bench import Load, Result

HELP = "measure frames a second, latency and efficiency on this machine"

_HEAD = (
    "cameras  frames/s  p50, p99 ms (at half load)  efficiency  of arithmetic  gain  MB  MB/camera  "
    "ms of a frame"
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cameras", type=_counts, default=[1, 4], metavar="N[,N]", help="default 1,4")
    parser.add_argument("--size", default="lite", metavar="S[,S]", help="lite (default), r18, …")
    parser.add_argument(
        "--tiles", type=_tiles, default=["1x1"], metavar="T[,T]", help="1x1 (default), 2x3, ..."
    )
    parser.add_argument(
        "--seconds", type=seconds, default=10.0, help="for each line of the table (default 10)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")
    parser.add_argument("--backend", default="auto", help="auto, torch, openvino")
    parser.add_argument("--max-batch", type=count, default=16, help="frames together, at most (16)")
    parser.add_argument(
        "--teacher-weights", type=Path, metavar="FILE", help="weights that come in no package"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")


def _counts(text: str) -> list[int]:
    return [count(part) for part in text.split(",")]


def _tiles(text: str) -> list[str]:
    from engine.tiles import Tiling

    try:
        return [str(Tiling.of(256, part)) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main(args: argparse.Namespace) -> int:
    """Exit 1 with a sentence if the device or the teacher isn't there."""
    from ..bench import as_json, measure

    results, shown = [], ""
    for load in _loads(args):
        found = measure(load)
        results.append(as_json(found))
        title = f"{load.size} at 256 px in {load.tiles} tiles, {found.gmacs:.2f} GMACs, 640x480 frames"
        if (title := f"{title}, {found.backend}") != shown:
            print(f"{title}\n{_HEAD}")
            shown = title
        print(_line(found), flush=True)
    if args.json:
        # The last line is the object itself; all of them are in `runs`.
        print(json.dumps({**results[-1], "runs": results}))
    return 0


def _loads(args: argparse.Namespace) -> Iterator["Load"]:
    from ..bench import Load

    for size in args.size.split(","):
        for tiles in args.tiles:
            for cameras in args.cameras:
                yield Load(
                    cameras=cameras,
                    size=size,
                    seconds=args.seconds,
                    device=args.device,
                    backend=args.backend,
                    max_batch=args.max_batch,
                    tiles=tiles,
                    teacher_weights=args.teacher_weights,
                )


def _line(found: "Result") -> str:
    stages = " ".join(f"{name} {ms:.2f}" for name, ms in found.stages_ms.items())
    told = f"{found.p50_ms:.1f}, {found.p99_ms:.1f}"
    told += f" ({found.half_load_p50_ms:.1f}, {found.half_load_p99_ms:.1f})"
    return (
        f"{found.load.cameras:7d}  {found.frames_per_s:8.1f}  {told:>26}  "
        f"{found.efficiency:10.2f}  {found.of_arithmetic:13.2f}  "
        f"{found.frames_per_s / found.naive_frames_per_s:4.2f}  {found.memory_mb:4.0f}  "
        f"{found.memory_per_camera_mb:9.0f}  {stages}"
    )
