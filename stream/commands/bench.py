"""`linewatch bench`: how many frames a second this machine inspects, how near that is to the bare network."""

import argparse
import json

HELP = "measure frames a second, latency and efficiency on this machine"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cameras", type=_counts, default=[1, 4], metavar="N[,N]", help="default 1,4")
    parser.add_argument("--size", default="lite", help="lite (default), r18, wide-lite or wide")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each number of cameras (default 10)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")
    parser.add_argument("--backend", default="auto", help="auto, torch, openvino")
    parser.add_argument("--max-batch", type=int, default=16)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")


def _counts(text: str) -> list[int]:
    counts = [int(part) for part in text.split(",")]
    if not counts or min(counts) < 1:
        raise argparse.ArgumentTypeError("give numbers of cameras, 1 or more")
    return counts


def main(args: argparse.Namespace) -> int:
    """Exit 1 with a sentence if the device or the teacher isn't there."""
    from ..bench import as_json, measure

    results = []
    for cameras in args.cameras:
        found = measure(
            cameras, args.size, args.seconds, args.device, backend=args.backend, max_batch=args.max_batch
        )
        results.append(as_json(found))
        if len(results) == 1:
            print(f"{args.size} at 256 px, 640x480 frames, {found.backend}")
            print("cameras  frames/s    p50 ms    p99 ms  efficiency    MB  MB/camera  stages of a batch, ms")
        stages = " ".join(f"{name} {ms:.1f}" for name, ms in found.stages_ms.items())
        print(
            f"{cameras:7d}  {found.frames_per_s:8.1f}  {found.p50_ms:8.1f}  {found.p99_ms:8.1f}  "
            f"{found.efficiency:10.2f}  {found.memory_mb:4.0f}  {found.memory_per_camera_mb:9.0f}  {stages}"
        )
    if args.json:
        # The last number of cameras is the object itself; all of them are in `runs`.
        print(json.dumps({**results[-1], "runs": results}))
    return 0
