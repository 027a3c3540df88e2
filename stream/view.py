"""The view that a camera's model was trained on, from its folder of good pictures."""

import logging
from pathlib import Path

from .health import View
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
    good = [pixels for path in spread if (pixels := read(path)) is not None]
    alike = [pixels for pixels in good if pixels.shape == good[0].shape]
    return View.of(alike) if alike else None
