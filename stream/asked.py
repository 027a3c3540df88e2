"""What a trigger's stream entry says (pure)."""

import math
from collections.abc import Mapping
from datetime import datetime

from .drafts import Part
from .events import NOT_AVAILABLE
from .inbox import Malformed
from .triggers import Trigger

_LONGEST_ID = 128
_UTC_S = (946_684_800.0, 4_102_444_800.0)  # the years 2000 to 2100
# By so much a time service sets a clock back at once.
_SET_BACK_S = 1.0


def parse_trigger(entry: str, fields: Mapping[str, str], now_utc: float) -> tuple[str, Trigger]:
    """(camera, trigger) of an entry: camera, part_id; where known job_id, recipe, at, id. Raises Malformed.

    `at` is UTC, RFC 3339 with its zone or seconds since 1970; without it, the moment in the entry's id, which
    the broker gave: so a trigger that lay there for an hour is not answered with the picture of now.
    """
    camera, part_id = _required(fields, "camera"), _required(fields, "part_id")
    part = Part(part_id, _optional(fields, "job_id"), _optional(fields, "recipe"))
    text = fields.get("at", "")
    at = _moment(text) if text else _moment_of(entry, now_utc)
    return camera, Trigger(part, at, now_utc, entry, _checked("id", fields.get("id", "")))


def _required(fields: Mapping[str, str], name: str) -> str:
    if not (value := fields.get(name, "")):
        raise Malformed(f"the field {name} is missing")
    return _checked(name, value)


def _optional(fields: Mapping[str, str], name: str) -> str:
    return _checked(name, fields.get(name) or NOT_AVAILABLE)


def _checked(name: str, value: str) -> str:
    if len(value) > _LONGEST_ID or not value.isprintable():
        raise Malformed(f"{name} must be printable text of at most {_LONGEST_ID} characters")
    return value


def _moment(text: str) -> float:
    try:
        at = float(text)
    except ValueError:
        at = _rfc3339_moment(text)
    if not math.isfinite(at) or not _UTC_S[0] <= at <= _UTC_S[1]:
        raise Malformed(
            "at must be UTC seconds since 1970, or a time such as 2026-11-23T12:00:00.000Z with its zone"
        )
    return at


def _moment_of(entry: str, now_utc: float) -> float:
    """A writer may choose ids of its own: nanoseconds, say, and so many seconds are no date.

    A broker whose clock was set back counts on from the id before: what seems to be written a little later
    than it is read was written just now. What is dated further ahead may have lain there for long.
    """
    at = float(entry.partition("-")[0]) / 1000.0
    if at > _UTC_S[1]:
        raise Malformed("at is missing, and the entry's id is not in milliseconds since 1970")
    return now_utc if now_utc < at < now_utc + _SET_BACK_S else at


def _rfc3339_moment(text: str) -> float:
    """NaN for what is no time, or one without its zone."""
    try:
        moment = datetime.fromisoformat(text)
        return math.nan if moment.tzinfo is None else moment.timestamp()
    except (ValueError, OverflowError):
        return math.nan
