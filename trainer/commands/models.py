"""`linewatch models [NAME]`: every model's versions, which one is latest, and its numbers."""

import argparse
import json
from typing import Any

from .places import add_models, models_folder

HELP = "list models and their versions"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="one model; without: all")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    add_models(parser)


def main(args: argparse.Namespace) -> int:
    from ..registry import describe, shelves

    folder = models_folder(args)
    found = shelves(folder, args.name)
    if args.json:
        print(json.dumps({"models": {name: [v.to_json() for v in them] for name, them in found.items()}}))
        return 0
    if not found:
        print(f"There are no models in {folder}; make one with `linewatch train NAME --data DIR`.")
    for line in describe(found):
        print(line)
    return 0


def add_version(parser: argparse.ArgumentParser) -> None:
    """NAME@VERSION and where; shared with `promote`."""
    parser.add_argument("model", help="NAME@VERSION, such as top@7")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    add_models(parser)


def say(args: argparse.Namespace, name: str, version: int) -> None:
    """Which version is the latest now."""
    now: dict[str, Any] = {"model": name, "latest": version}
    print(json.dumps(now) if args.json else f"{name}@latest is {name}@{version} now.")
