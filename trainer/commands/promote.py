"""`linewatch promote NAME@VERSION`: this version is the latest from now on."""

import argparse

from .models import add_version, say
from .places import models_folder

HELP = "make a version the latest"


def configure(parser: argparse.ArgumentParser) -> None:
    add_version(parser)


def main(args: argparse.Namespace) -> int:
    from engine.shelf import promote_checked

    name, version = promote_checked(models_folder(args), args.model)
    say(args, name, version)
    return 0
