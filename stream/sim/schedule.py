"""What was shown when, beside the stream: one JSON line a part or picture, and how incidents are judged by
it.

Nothing is burnt into the pixels: a line carries the RTP time stamp and the UTC of the first frame that was
sent of it.
"""

import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from .shown import Box, Shot, ShownDefect

TOLERANCE_S = 1.0
_LEAST_SEEN_S = 0.5  # a defect that could be seen for less time within the run is not counted as shown
_MAX_BYTES = 16 * 1024 * 1024


class ScheduleError(Exception):
    """The schedule can't be written any more: the disk is full, say. The text is for a person."""

    user_message = True


@dataclass(frozen=True, slots=True)
class Truth:
    """A true defect in UTC seconds; boxes in frame pixels as in ShownDefect."""

    id: str
    kind: str
    box: Box
    sweep: Box
    from_s: float
    to_s: float
    still_from_s: float
    still_to_s: float


@dataclass(frozen=True, slots=True)
class Entry:
    """One part or picture: `rtp` and `captured_at_s` (UTC) are of the first frame of it that was sent."""

    camera: str
    rtp: int
    captured_at_s: float
    name: str
    phase: str
    defects: tuple[Truth, ...]


@dataclass(frozen=True, slots=True)
class Sighting:
    """One event of an incident: `incident` is its defect_id, `captured_at_s` UTC, `boxes` in frame pixels."""

    incident: str
    captured_at_s: float
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """Ids of the defects shown, found and missed, of the incidents that no true defect explains, and of those
    among them during which no defect was in the picture at all.
    """

    shown: tuple[str, ...]
    found: tuple[str, ...]
    missed: tuple[str, ...]
    false_alarms: tuple[str, ...]
    on_good: tuple[str, ...]


# --- writing ---


def entry_line(camera: str, rtp: int, start_utc_s: float, at_s: float, shot: Shot) -> str:
    """The JSON line for the first sent frame of a shot; the show began at `start_utc_s`."""
    return json.dumps(
        {
            "schema": "camera-schedule/1",
            "camera": camera,
            "rtp": rtp,
            "captured_at": to_text(start_utc_s + at_s),
            "name": shot.name,
            "phase": shot.phase,
            "verdict": "defect" if shot.defects else "good",
            "defects": [_defect_json(defect, start_utc_s) for defect in shot.defects],
        },
        separators=(",", ":"),
    )


def _defect_json(defect: ShownDefect, start_utc_s: float) -> dict[str, object]:
    times = ("from_s", "to_s", "still_from_s", "still_to_s")
    rest = {key: value for key, value in asdict(defect).items() if key not in times}
    # A file outlives its simulator: the same defect of another run is another one.
    rest["id"] = f"{start_utc_s:.0f}-{defect.id}"
    return rest | {key[:-2]: to_text(start_utc_s + getattr(defect, key)) for key in times}


class ScheduleWriter:
    """Appends lines to `path`, each flushed; above 16 MiB the file becomes `path`.1 (one is kept)."""

    def __init__(self, path: Path, max_bytes: int = _MAX_BYTES) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self._max_bytes = path, max_bytes
        self._file = path.open("a", encoding="utf-8")

    def write(self, line: str) -> None:
        """One line, without its end. Raises ScheduleError."""
        try:
            self._append(line)
        except OSError as error:
            raise ScheduleError(f"{self.path} can't be written: {error.strerror}") from error

    def _append(self, line: str) -> None:
        if self._file.tell() + len(line) >= self._max_bytes:
            self._file.close()
            self.path.replace(self.path.with_name(self.path.name + ".1"))
            self._file = self.path.open("a", encoding="utf-8")
        self._file.write(line + "\n")
        self._file.flush()

    def close(self) -> None:
        """The file is closed; what was written is there already."""
        with contextlib.suppress(OSError):  # a line that could not be written is tried once more
            self._file.close()


# --- reading ---


def read(path: Path) -> list[Entry]:
    """All entries so far, oldest first, of the file and the one before it; a line still being written is
    left out.
    """
    parts = [p.read_text("utf-8") for p in (path.with_name(path.name + ".1"), path) if p.exists()]
    return [parse(line) for text in parts for line in text.splitlines(keepends=True) if line.endswith("\n")]


def parse(line: str) -> Entry:
    """One line. Raises ValueError or KeyError for anything else."""
    said = json.loads(line)
    defects = tuple(
        Truth(
            d["id"],
            d["kind"],
            _box(d["box"]),
            _box(d["sweep"]),
            *(to_seconds(d[key]) for key in ("from", "to", "still_from", "still_to")),
        )
        for d in said["defects"]
    )
    at_s = to_seconds(said["captured_at"])
    return Entry(said["camera"], said["rtp"], at_s, said["name"], said["phase"], defects)


def _box(values: Sequence[int]) -> Box:
    x0, y0, x1, y1 = values
    return int(x0), int(y0), int(x1), int(y1)


def to_text(utc_s: float) -> str:
    """RFC 3339 UTC with microseconds."""
    return datetime.fromtimestamp(utc_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def to_seconds(text: str) -> float:
    """RFC 3339 → seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


# --- judging (pure) ---


def judge(
    entries: Iterable[Entry],
    sightings: Iterable[Sighting],
    from_s: float,
    to_s: float,
    tolerance_s: float = TOLERANCE_S,
) -> Score:
    """Compare what one camera was shown from `from_s` to `to_s` (UTC) with its incidents.

    An incident finds a defect if any of its boxes overlaps the defect's within `tolerance_s`; an incident
    of that time that overlaps none is a false alarm, even if a defect was shown elsewhere in the picture.
    """
    known = {truth.id: truth for entry in entries for truth in entry.defects}
    shown = [t.id for t in known.values() if _seen_s(t, from_s, to_s) >= _LEAST_SEEN_S]
    hits: dict[str, set[str]] = {}
    beside: set[str] = set()
    for seen in sightings:
        if from_s <= seen.captured_at_s <= to_s:
            found = {t.id for t in known.values() if explains(t, seen, tolerance_s)}
            hits.setdefault(seen.incident, set()).update(found)
            if any(t.from_s <= seen.captured_at_s <= t.to_s for t in known.values()):
                beside.add(seen.incident)
    found_ids = set().union(*hits.values())
    false_alarms = [incident for incident, found in hits.items() if not found]
    return Score(
        tuple(shown),
        tuple(i for i in shown if i in found_ids),
        tuple(i for i in shown if i not in found_ids),
        tuple(false_alarms),
        tuple(incident for incident in false_alarms if incident not in beside),
    )


def _seen_s(truth: Truth, from_s: float, to_s: float) -> float:
    return min(truth.still_to_s, to_s) - max(truth.still_from_s, from_s)


def explains(truth: Truth, seen: Sighting, tolerance_s: float = TOLERANCE_S) -> bool:
    """Whether this defect explains the event: where it stands, or anywhere on its way while it comes or
    goes.
    """
    at_s = seen.captured_at_s
    if not truth.from_s - tolerance_s <= at_s <= truth.to_s + tolerance_s:
        return False
    moving = truth.from_s <= at_s < truth.still_from_s or truth.still_to_s < at_s <= truth.to_s
    return any(overlap(truth.sweep if moving else truth.box, box) for box in seen.boxes)


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes share a pixel."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
