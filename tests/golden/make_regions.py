"""Makes regions.json: the regions of a few maps, found by NumPy and SciPy, that CuPy must find as well.

Run from the repository's root: `.venv/bin/python tests/golden/make_regions.py`.
"""

import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from engine.regions import View, find
from engine.xp import ArrayLibrary, numpy_library

FILE = Path(__file__).with_name("regions.json")
VIEWS = ((1280, 720, 40.0), (640, 480, 40.0), (256, 256, 8.0), (1920, 1080, 0.0))


def examples() -> dict[str, NDArray[np.float32]]:
    """Named stacks of maps (4, h, w): smooth blobs as models give them, noise, everything, nothing."""
    dice = np.random.default_rng(7)
    noise = dice.standard_normal((4, 64, 96))
    return {
        "blobs": (gaussian_filter(noise, (0, 4, 4)) * 12).astype(np.float32),
        "noise": (noise[:, :32, :32] * 0.8).astype(np.float32),
        "everything": np.full((4, 16, 16), 1.5, dtype=np.float32),
        "nothing": np.zeros((4, 16, 16), dtype=np.float32),
    }


def result(name: str, library: ArrayLibrary) -> list[list[list[float]]]:
    """Each defect as numbers, rounded so that the order of additions doesn't show."""
    maps = library.xp.asarray(examples()[name])
    found = find(maps, [View(*view) for view in VIEWS], library, max_regions=12)
    return [
        [
            [*d.box, d.area_px, round(d.peak, 4), round(d.mean, 4), *(round(c, 2) for c in d.centroid)]
            for d in one
        ]
        for one in found
    ]


def main() -> None:
    made = {name: result(name, numpy_library()) for name in examples()}
    FILE.write_text(json.dumps(made, indent=None, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    sys.exit(main())
