"""`linewatch sizes`: the model sizes, their teachers, parameters and multiply-accumulates."""

import argparse
import json
from dataclasses import asdict

HELP = "list the model sizes and what they cost"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--input-px", type=int, default=256, help="side of the network's picture (256)")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")


def main(args: argparse.Namespace) -> int:
    from engine.model.cost import costs
    from engine.model.dmdd import SIZES

    from ..input_px import check_input_px

    check_input_px(args.input_px)
    found = {name: costs(name, args.input_px) for name in SIZES}
    if args.json:
        print(json.dumps({name: {k: asdict(c) for k, c in parts.items()} for name, parts in found.items()}))
        return 0
    print(f"{'size':10} {'teacher':20} {'part':8} {'parameters':>11} {'GMACs':>8}")
    for name, parts in found.items():
        for part, cost in parts.items():
            teacher = SIZES[name].teacher
            print(f"{name:10} {teacher:20} {part:8} {cost.parameters_m:9.2f} M {cost.gmacs:8.2f}")
    return 0
