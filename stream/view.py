"""The view that a camera's model was trained on, from its folder of good pictures."""

from pathlib import Path

from .health import View
from .sources.folder import pictures, read

_ENOUGH = 16


def trained_view(folder: Path) -> View | None:
    """The view of some good pictures, spread over the folder; None without any. Reads files, slowly."""
    paths = pictures(folder) if folder.is_dir() else []
    spread = paths[:: max(1, len(paths) // _ENOUGH)][:_ENOUGH]
    good = [pixels for path in spread if (pixels := read(path)) is not None]
    alike = [pixels for pixels in good if pixels.shape == good[0].shape]
    return View.of(alike) if alike else None
