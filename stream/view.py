"""The view that a camera's model was trained on, from its folder of good pictures."""

import logging
from pathlib import Path

from .health import Grey, View, small_grey
from .sources.folder import pictures, read

log = logging.getLogger(__name__)

_ENOUGH = 16


def trained_view(folder: Path) -> View | None:
    """The view of some good pictures, spread over the folder; None without any. Reads files, slowly.

    A folder that can't be read costs the comparison with it, which is said, and no more: the line runs.
    """
    try:
        paths = pictures(folder) if folder.is_dir() else []
    except OSError as error:
        log.warning(
            "the good pictures in %s can't be read (%s): blurred or moved pictures are not told; "
            "let Linewatch read them and start it again",
            folder,
            error.strerror or type(error).__name__,
        )
        return None
    spread = paths[:: max(1, len(paths) // _ENOUGH)][:_ENOUGH]
    good = [small for path in spread if (small := _small(path)) is not None]
    if not good:
        return None
    size_px = good[0][1]
    return View.of([grey for grey, its_size_px in good if its_size_px == size_px], size_px)


def _small(path: Path) -> tuple[Grey, tuple[int, int]] | None:
    """A picture's small grey and its (width, height); None if it can't be read. A function of its own, so
    that the large one is gone before the next is read: sixteen of them are half a gigabyte.
    """
    if (pixels := read(path)) is None:
        return None
    height, width = pixels.shape[:2]
    return small_grey(pixels), (width, height)
