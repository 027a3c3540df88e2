"""What the line removes by itself: good pictures beyond their age or room, models beyond their number.

`overdue` decides (pure); the rest lists and removes files, which a thread does.
"""

import contextlib
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.core import SUFFIXES
from engine.errors import ArtifactError
from engine.versions import names, remove_old

log = logging.getLogger(__name__)

_FUTURE_S = 60.0


@dataclass(frozen=True, slots=True)
class Stored:
    """A good picture on disk; `at` is when it came into its folder, UTC seconds."""

    path: Path
    at: float
    size_bytes: int


def overdue(
    pictures: Iterable[Stored], now: float, *, max_bytes: int, max_age_s: float | None
) -> list[Stored]:
    """What has to go: what is too old, then the oldest until the rest fits."""
    kept = sorted(pictures, key=lambda picture: in_order(picture.at, now))
    size = sum(picture.size_bytes for picture in kept)
    gone = []
    for picture in kept:
        # One that fits may stand before one that is too old: it is dated in the future.
        if size > max_bytes or (max_age_s is not None and now - picture.at > max_age_s):
            gone.append(picture)
            size -= picture.size_bytes
    return gone


def in_order(at: float, now: float) -> float:
    """By what the oldest goes first (pure): UTC seconds, but what is dated in the future before all others.

    Such things were dated by a clock that was wrong, and is right now: by their dates all that comes from now
    on would be the oldest, and go at once.
    """
    return at if at <= now + _FUTURE_S else 0.0


def good_pictures(folder: Path) -> list[Stored]:
    """The pictures of one good folder, in no order; [] where there is none. Other files aren't ours."""
    with contextlib.suppress(OSError):  # no such folder
        return [found for path in folder.iterdir() if (found := _stored(path)) is not None]
    return []


def good_picture(folder: Path, name: str) -> Stored | None:
    """The one of them whose file has this name, without a look at the others, which may be thousands."""
    path = folder / name
    return _stored(path) if path.parent == folder else None


def _stored(path: Path) -> Stored | None:
    if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
        # One that left just now, or a link to nothing; a name that no file can have.
        with contextlib.suppress(OSError, ValueError):
            said = path.stat()
            return Stored(path, said.st_mtime, said.st_size)
    return None


def tidy_pictures(folder: Path, now: float, *, max_mb: int, max_age_days: float | None) -> int:
    """Remove what is overdue in FOLDER/*/good; how many went. One that can't be removed keeps no other."""
    pictures = [p for good in folder.glob("*/good") for p in good_pictures(good)]
    max_age_s = None if max_age_days is None else max_age_days * 86400
    gone, refused = [], []
    for picture in overdue(pictures, now, max_bytes=max_mb * 1_000_000, max_age_s=max_age_s):
        try:
            picture.path.unlink(missing_ok=True)
            gone.append(picture)
        except OSError as error:
            refused.append(error)
    if refused:  # of thousands in a folder that is not ours one sentence is enough
        log.error(
            "%d old good pictures can't be removed, let Linewatch do that: %s", len(refused), refused[0]
        )
    for camera, count in Counter(p.path.parent.parent.name for p in gone).items():
        log.info("%d of the oldest good pictures of camera %s were removed (pictures.max_…)", count, camera)
    return len(gone)


def tidy_models(models: Path, keep: int, in_use: Mapping[str, set[int]]) -> int:
    """Remove old versions of every model but those in use; how many went. Raises OSError."""
    removed = 0
    for name in names(models):
        try:
            gone = remove_old(models, name, keep, in_use.get(name, set()))
        except ArtifactError as error:
            log.warning("%s", error)
            continue
        if gone:
            log.info("versions %s of model %s were removed (models.keep_versions)", gone, name)
        removed += len(gone)
    return removed
