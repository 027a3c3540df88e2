"""`linewatch demo`: a whole line on this machine, from simulated cameras to defect events."""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import count, seconds

if TYPE_CHECKING:
    from ..demo.conductor import Plan
    from ..demo.report import Watched

HELP = "try it: simulated cameras, training, the live line and its events"
_FOLDER = Path("var/demo")


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--seconds", type=seconds, metavar="N", help="end after N seconds of the live line (default: Ctrl-C)")
    add(
        "--data",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="pictures in MVTec layout instead of the pattern line, a camera a folder; repeatable",
    )
    add("--broker", default="embedded", metavar="URL", help="another broker than the embedded one")
    add("--web", default="127.0.0.1:8080", metavar="ADDRESS:PORT", help="where the page listens")
    add("--folder", type=Path, help=f"where its files go (default {_FOLDER}/…)")
    add("--steps", type=count, default=300, metavar="N", help="training steps for each camera (300)")
    add("--frames", type=count, metavar="N", help="good pictures of each camera (60; of --data 80)")
    add("--json", action="store_true", help="one JSON object on the last line")


def main(args: argparse.Namespace) -> int:
    from ..demo import conductor
    from ..demo.report import build, failures

    folder = args.folder or _FOLDER / ("-".join(p.resolve().name for p in args.data) or "pattern")
    training = ("--steps", str(args.steps))
    plan = conductor.Plan(
        folder, tuple(args.data), args.seconds, args.broker, args.web, training, args.frames
    )
    seen = asyncio.run(_perform(plan))
    if seen is None:
        return 130
    report = build(seen)
    why = failures(report, seen)
    for sentence in why:
        print(f"demo: {sentence}", file=sys.stderr)
    print(json.dumps(report) if args.json else _for_people(report))
    return 1 if why else 0


async def _perform(plan: "Plan") -> "Watched | None":
    from ..demo.conductor import perform

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    return await perform(plan, stop)


def _for_people(report: Mapping[str, Any]) -> str:
    defects, latency = report["defects"], report["latency_ms"]
    alarms = f"{report['false_alarms']} false alarms, {report['false_alarms_on_good']} of them on good parts"
    return "\n".join(
        [
            f"defects     {defects['found']} of {defects['shown']} found, {alarms}",
            f"events      {report['events']['read']} read, {report['events']['lost']} lost",
            f"latency     {latency['p50']} ms median, {latency['p99']} ms p99, capture to event",
            f"frames      {report['frames_per_s']} a second",
        ]
    )
