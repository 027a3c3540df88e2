"""What the line removes by itself: good pictures beyond their age or room, models beyond their number.

`overdue` decides (pure); the rest lists and removes files, which a thread does.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.errors import ArtifactError
from engine.versions import names, remove_old

from .sources.folder import SUFFIXES

log = logging.getLogger(__name__)


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
    kept = sorted(pictures, key=lambda picture: picture.at)
    size = sum(picture.size_bytes for picture in kept)
    gone = []
    for picture in kept:
        if size <= max_bytes and (max_age_s is None or now - picture.at <= max_age_s):
            break
        gone.append(picture)
        size -= picture.size_bytes
    return gone


def good_pictures(folder: Path) -> list[Stored]:
    """The pictures of one good folder, in no order; [] where there is none. Other files aren't ours."""
    found = []
    try:
        for path in folder.iterdir():
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                said = path.stat()
                found.append(Stored(path, said.st_mtime, said.st_size))
    except OSError:  # no such folder, or a picture that left just now: the next look sees the rest
        return found
    return found


def tidy_pictures(folder: Path, now: float, *, max_mb: int, max_age_days: float | None) -> int:
    """Remove what is overdue in FOLDER/*/good; how many went. Raises OSError."""
    pictures = [p for good in folder.glob("*/good") for p in good_pictures(good)]
    max_age_s = None if max_age_days is None else max_age_days * 86400
    gone = overdue(pictures, now, max_bytes=max_mb * 1_000_000, max_age_s=max_age_s)
    for picture in gone:
        picture.path.unlink(missing_ok=True)
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
