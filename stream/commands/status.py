"""`linewatch status`: what the running line says of itself, from any shell of this machine."""

import argparse
import asyncio
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.settings import Settings

    from ..standing import Standing

HELP = "say how the running line does: each camera, its counts, and what waits in the outbox"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", help="the config file (LINEWATCH_CONFIG, else ./cameras.yaml)")
    parser.add_argument("--config", dest="named", metavar="FILE", help="the same, as an option")
    parser.add_argument(
        "--probe",
        choices=("live", "ready", "startup"),
        help="ask this probe of the page instead: exit 0 or 1, for health checks",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")


def main(args: argparse.Namespace) -> int:
    """0: the line runs and every camera is ready; 1: it does not, or one is not."""
    from config.load import load

    settings = load(args.named or args.file)
    if args.probe is not None:
        return _probe(settings, args.probe)
    from ..standing import ask

    standing = asyncio.run(ask(settings))
    print(json.dumps(standing.as_json(), ensure_ascii=False) if args.json else _text(standing))
    return 0 if standing.is_well else 1


def _probe(settings: "Settings", name: str) -> int:
    from ..standing import probe

    said = probe(settings.web, name)
    print(said or f"{name}: yes")
    return int(bool(said))


def _text(standing: "Standing") -> str:
    oldest = "" if standing.oldest_s is None else f", the oldest for {standing.oldest_s:.0f} s"
    lines = [
        f"{standing.line}: {standing.text}",
        f"{standing.pending} events wait for the broker{oldest}",
    ]
    for name, camera in standing.cameras.items():
        counts = f"{camera.ok_count} ok, {camera.ng_count} ng, {camera.processing_ms:.0f} ms"
        lines.append(f"  {name:<16} {camera.state:<12} {counts}  {camera.model or 'no model'}")
    return "\n".join(lines)
