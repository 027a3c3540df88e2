"""`linewatch models [NAME]`: every model's versions, which one is latest, and its numbers."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .places import add_models, models_folder

if TYPE_CHECKING:
    from engine.shelf import Version

HELP = "list models and their versions"
_TOLD = ("image_auroc", "pixel_auroc", "ap", "pro", "false_alarm_rate", "recall_at_threshold")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="one model; without: all")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    add_models(parser)


def main(args: argparse.Namespace) -> int:
    from engine.shelf import shelves

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


def describe(found: Mapping[str, Sequence["Version"]]) -> Iterator[str]:
    """One line a version, for a terminal; `*` marks the latest, `!` why there is none."""
    from engine.tiles import ONE

    for name, them in found.items():
        for v in them:
            mark = "*" if v.latest else " "
            size = v.size if v.tiles == ONE else f"{v.size} in {v.tiles} tiles"
            told = v.broken or f"{v.created_at}  {size}  {v.good_pictures} good pictures  {_numbers(v)}"
            yield f"{mark} {name}@{v.version}  {told}".rstrip()
        if them and them[0].no_latest:
            yield f"! {name}  {them[0].no_latest}"


def _numbers(v: "Version") -> str:
    from ..evaluate import flat

    told = {k: number for k, number in flat(v.evaluated).items() if k.split()[-1] in _TOLD} or v.metrics
    return "  ".join(f"{key} {value:.3f}" for key, value in told.items() if isinstance(value, float))


def add_version(parser: argparse.ArgumentParser) -> None:
    """NAME@VERSION and where; shared with `promote`."""
    parser.add_argument("model", help="NAME@VERSION, such as top@7")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    add_models(parser)


def say(args: argparse.Namespace, name: str, version: int) -> None:
    """Which version is the latest now."""
    now: dict[str, Any] = {"model": name, "latest": version}
    print(json.dumps(now) if args.json else f"{name}@latest is {name}@{version} now.")
