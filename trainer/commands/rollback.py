"""`linewatch rollback NAME`: back to the version that was the latest before."""

import argparse

from .models import say
from .places import add_models, models_folder

HELP = "go back to the version before the latest"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="the model's name")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    add_models(parser)


def main(args: argparse.Namespace) -> int:
    from engine.shelf import rollback_checked

    say(args, args.name, rollback_checked(models_folder(args), args.name))
    return 0
