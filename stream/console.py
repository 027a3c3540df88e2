"""How this program starts another `linewatch` command as a process of its own."""

import sys
from pathlib import Path


def linewatch() -> list[str]:
    """The console script that belongs to this interpreter, or the module where there is no script."""
    script = Path(sys.executable).with_name("linewatch")
    return [str(script)] if script.exists() else [sys.executable, "-m", "config.cli"]
