"""Numbers behind an option, several commands' own."""

import argparse
import math


def count(text: str) -> int:
    """1 or more."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 or more")
    return int(text)


def seconds(text: str) -> float:
    """Above 0."""
    said = number(text)
    if not 0 < said < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return said


def number(text: str) -> float:
    """Not a number where it is none: that lies within no limits."""
    try:
        return float(text)
    except ValueError:
        return math.nan
