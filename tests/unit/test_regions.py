"""Regions against a slow plain definition, and against golden results on disk."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.core import Defect
from engine.regions import View, find, tabulate
from engine.tiles import Tiling
from engine.xp import ArrayLibrary, XpArray, numpy_library
from tests.golden.make_regions import FILE, examples, result

LIBRARY = numpy_library()
Maps = NDArray[np.float32]


def cells_of(one: Maps, start: tuple[int, int], seen: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """A region by walking from cell to cell."""
    todo, region = [start], []
    seen.add(start)
    while todo:
        y, x = todo.pop()
        region.append((y, x))
        for ny in range(max(y - 1, 0), min(y + 2, one.shape[0])):
            for nx in range(max(x - 1, 0), min(x + 2, one.shape[1])):
                if (ny, nx) not in seen and one[ny, nx] > 1.0:
                    seen.add((ny, nx))
                    todo.append((ny, nx))
    return region


def plain(one: Maps, view: View) -> list[Defect]:
    """The definition, cell by cell."""
    seen: set[tuple[int, int]] = set()
    sx, sy = view.frame_width_px / one.shape[1], view.frame_height_px / one.shape[0]
    found = []
    for start in zip(*np.nonzero(one > 1.0), strict=True):
        if start in seen:
            continue
        region = cells_of(one, start, seen)
        ys, xs = [y for y, _ in region], [x for _, x in region]
        values = [float(one[cell]) for cell in region]
        area_px = len(region) * sx * sy
        if area_px < view.min_area_px:
            continue
        box = (int(min(xs) * sx), int(min(ys) * sy), -int(-(max(xs) + 1) * sx), -int(-(max(ys) + 1) * sy))
        middle = (sum(x + 0.5 for x in xs) / len(xs) * sx, sum(y + 0.5 for y in ys) / len(ys) * sy)
        found.append(Defect(box, round(area_px), max(values), sum(values) / len(values), middle))
    return found


def by_place(defects: list[Defect]) -> list[Defect]:
    return sorted(defects, key=lambda d: (d.box, d.peak, d.area_px))


@st.composite
def map_stacks(draw: st.DrawFn) -> Maps:
    count, height, width = draw(st.integers(1, 3)), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    dice = np.random.default_rng(draw(st.integers(0, 10_000)))
    # Each map its own: most maps of a line have nothing in them.
    levels = draw(st.lists(st.sampled_from([0.3, 0.9, 1.2, 2.5]), min_size=count, max_size=count))
    return (dice.random((count, height, width)) * np.reshape(levels, (-1, 1, 1))).astype(np.float32)


@settings(derandomize=True, max_examples=120, deadline=None)
@given(map_stacks(), st.sampled_from([1, 2, 4]), st.sampled_from([0.0, 3.0, 12.0]))
def test_regions_are_what_the_plain_definition_finds(maps: Maps, scale: int, least_px: float) -> None:
    view = View(maps.shape[2] * scale, maps.shape[1] * scale, least_px)
    found = find(maps, [view] * len(maps), LIBRARY)
    for one, mine in zip(maps, found, strict=True):
        wanted = by_place(plain(one, view))
        assert [d.box for d in by_place(mine)] == [d.box for d in wanted]
        for got, want in zip(by_place(mine), wanted, strict=True):
            assert got.area_px == want.area_px and got.peak == want.peak
            assert np.allclose((got.mean, *got.centroid), (want.mean, *want.centroid), atol=1e-6)


def test_neighbouring_maps_of_a_batch_do_not_touch() -> None:
    maps = np.zeros((2, 4, 4), dtype=np.float32)
    maps[0, 1, 1] = maps[1, 1, 1] = 2.0
    found = find(maps, [View(4, 4)] * 2, LIBRARY)
    assert [len(defects) for defects in found] == [1, 1]


def test_cells_that_touch_at_a_corner_are_one_region() -> None:
    maps = np.eye(3, dtype=np.float32)[None] * 2
    [[defect]] = find(maps, [View(3, 3)], LIBRARY)
    assert defect.area_px == 3 and defect.box == (0, 0, 3, 3) and defect.centroid == (1.5, 1.5)


def test_the_alarm_level_itself_is_no_defect() -> None:
    assert find(np.ones((1, 2, 2), dtype=np.float32), [View(2, 2)], LIBRARY) == [[]]


def test_boxes_are_in_frame_pixels_with_exclusive_ends_even_when_the_scale_is_no_whole_number() -> None:
    maps = np.zeros((1, 256, 256), dtype=np.float32)
    maps[0, -1, -1] = 2.0
    [[defect]] = find(maps, [View(1280, 720)], LIBRARY)
    assert defect.box == (1275, 717, 1280, 720) and defect.area_px == 14


def test_each_frame_of_a_batch_has_its_own_size_and_minimum() -> None:
    maps = np.zeros((2, 8, 8), dtype=np.float32)
    maps[:, 2:4, 2:4] = 2.0
    found = find(maps, [View(8, 8, 5), View(16, 16, 5)], LIBRARY)
    assert [len(defects) for defects in found] == [0, 1]
    assert found[1][0].box == (4, 4, 8, 8) and found[1][0].area_px == 16


def test_a_region_of_exactly_the_smallest_area_counts_however_that_was_rounded() -> None:
    for height, width in (Tiling(256, 2, 3).canvas, Tiling(256).canvas, Tiling(416, 3, 7).canvas):
        maps = np.zeros((2, height, width), dtype=np.float32)
        maps[0, 2:4, 2:6] = maps[1, 2:3, 2:9] = 2.0
        least_px = 8 * 1080 * 1920 / (height * width)
        assert [len(defects) for defects in find(maps, [View(1920, 1080, least_px)] * 2, LIBRARY)] == [1, 0]


def test_maps_without_anything_between_others_change_nobodys_place() -> None:
    maps = np.zeros((5, 8, 8), dtype=np.float32)
    maps[1, 2, 2] = maps[3, 2, 2] = 2.0
    found = find(maps, [View(8 * n, 8, 0) for n in range(1, 6)], LIBRARY)
    assert [[defect.box for defect in defects] for defects in found] == [
        [],
        [(4, 2, 6, 3)],
        [],
        [(8, 2, 12, 3)],
        [],
    ]


def test_the_highest_peaks_are_kept_when_there_are_too_many_regions() -> None:
    maps = np.zeros((1, 9, 9), dtype=np.float32)
    maps[0, ::2, ::2] = np.arange(25, dtype=np.float32).reshape(5, 5) + 2
    [defects] = find(maps, [View(9, 9)], LIBRARY, max_regions=3)
    assert [d.peak for d in defects] == [26, 25, 24]


def test_results_equal_the_golden_ones() -> None:
    golden = json.loads(Path(FILE).read_text(encoding="ascii"))
    assert {name: result(name, LIBRARY) for name in examples()} == golden


class OnDevice(ArrayLibrary):
    """NumPy in CuPy's place."""

    def to_host(self, array: XpArray) -> NDArray[np.float64]:
        return np.asarray(array)


class Counting:
    """A ufunc that notes how many cells were scattered through it."""

    def __init__(self, ufunc: np.ufunc, seen: list[int]) -> None:
        self._ufunc, self._seen = ufunc, seen

    def at(self, out: XpArray, where: XpArray, values: XpArray) -> None:
        self._seen.append(len(where))
        self._ufunc.at(out, where, values)


def test_a_device_takes_the_same_way_and_scatters_only_the_cells_of_regions() -> None:
    seen: list[int] = []
    xp = ModuleType("xp")
    xp.__dict__.update(np.__dict__)
    for name in ("add", "minimum", "maximum"):
        setattr(xp, name, Counting(getattr(np, name), seen))
    library = OnDevice(xp, scipy.ndimage, on_device=True)
    assert all(result(name, library) == result(name, LIBRARY) for name in examples())
    seen.clear()
    maps = np.zeros((2, 64, 64), dtype=np.float32)
    maps[1, 3:5, 3:6] = 2.0
    assert [len(defects) for defects in find(maps, [View(64, 64)] * 2, library)] == [0, 1]
    assert set(seen) == {6}


class Listless(np.ndarray):
    """An index is an array or a slice: CuPy sends a list to the device first, and takes an empty range for
    numbers with a fraction."""

    def __getitem__(self, index: object) -> object:
        assert not isinstance(index, list | range | tuple), f"an index of type {type(index)}"
        return super().__getitem__(index)  # type: ignore[index]


def test_no_map_is_picked_out_on_a_device() -> None:
    maps = np.zeros((4, 9, 9), dtype=np.float32)
    library = OnDevice(np, scipy.ndimage, on_device=True)
    assert tabulate(maps.view(Listless), library).shape == tabulate(maps, LIBRARY).shape == (0, 10)
    maps[1, 2:4, 2:4], maps[3, 5, 1:8] = 1.5, 2.0
    assert np.array_equal(tabulate(maps.view(Listless), library), tabulate(maps, LIBRARY))
