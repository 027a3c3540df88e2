"""Texture pictures for synthetic anomalies: a folder's, else the three that scikit-image ships."""

import importlib.util
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.images import to_square

from .dataset import list_pictures, read_picture, refuse_evaluation, unreadable
from .errors import DataError

log = logging.getLogger(__name__)

SHIPPED = ("brick.png", "grass.png", "gravel.png")
# All are in memory while training goes on: at 1024 px so many take 3 GB.
MOST = 1000


def load_textures(
    folder: Path | None, size_px: int, note: Callable[[str], None] = log.warning
) -> list[NDArray[np.uint8]]:
    """The pictures under `folder`, its subfolders too, by path; (P, P, 3) uint8 RGB.

    None takes scikit-image's brick, grass and gravel. Of more than 1,000 so many are taken, evenly spread;
    that and what can't be read is told to `note`.
    Raises DataError if nothing is left, where a test set lies among the subfolders, or where scikit-image
    isn't as it was.
    """
    if folder is None:
        return [to_square(read_picture(path)[0], size_px) for path in _shipped()]
    try:
        paths = _texture_paths(folder)
    except OSError as error:
        raise unreadable(folder, error) from error
    if not paths:
        raise DataError(f"{folder} and its subfolders hold no pictures to take textures from.")
    if len(paths) > MOST:
        note(f"{folder} holds {len(paths)} texture pictures: {MOST} of them are used, evenly spread by path.")
        paths = [paths[i * len(paths) // MOST] for i in range(MOST)]
    found = []
    for path in paths:
        try:
            found.append(to_square(read_picture(path)[0], size_px))
        except DataError as error:
            note(f"Skipped: {error}")
    if not found:
        raise DataError(
            f"None of the {len(paths)} texture pictures in {folder} can be read: save them again."
        )
    return found


def _shipped() -> Sequence[Path]:
    """Found without importing scikit-image, of which nothing else is used."""
    package = importlib.util.find_spec("skimage")
    homes = [] if package is None else package.submodule_search_locations or []
    for data in (Path(home) / "data" for home in homes):
        if all((data / name).is_file() for name in SHIPPED):
            return [data / name for name in SHIPPED]
    raise DataError(
        f"The textures {', '.join(SHIPPED)} of scikit-image aren't here: install scikit-image again "
        "(pip install --force-reinstall scikit-image), or name a folder of textures: --textures DIR."
    )


def _texture_paths(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder of texture pictures.")
    folders = [folder, *sorted(p for p in folder.rglob("*") if p.is_dir())]
    for inner in folders:
        refuse_evaluation(inner, "name a folder of textures that has none of it")
    return [path for inner in folders for path in list_pictures(inner)]
