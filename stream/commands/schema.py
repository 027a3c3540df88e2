"""`linewatch schema [NAME]`: the contracts as JSON Schema and AsyncAPI, for editors and subscribers."""

import argparse
import json
import sys
from importlib import import_module
from typing import Any

HELP = "print a schema: the config file's, the events', all streams and keys (asyncapi)"

# name → (module, function that makes the schema); imported only when asked for.
SCHEMAS: dict[str, tuple[str, str]] = {
    "config": ("config.settings", "json_schema"),
    "event": ("stream.events", "json_schema"),
    "asyncapi": ("stream.contract", "asyncapi"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Which one; without a name all of them in one object."""
    parser.add_argument(
        "name", nargs="?", choices=sorted(SCHEMAS), help="which schema; without: all, by name"
    )


def main(arguments: argparse.Namespace) -> int:
    """Print it, indented, on stdout."""
    found: Any = (
        schema(arguments.name) if arguments.name else {name: schema(name) for name in sorted(SCHEMAS)}
    )
    json.dump(found, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
    return 0


def schema(name: str) -> dict[str, Any]:
    """One contract of SCHEMAS."""
    module, function = SCHEMAS[name]
    made: dict[str, Any] = getattr(import_module(module), function)()
    return made
