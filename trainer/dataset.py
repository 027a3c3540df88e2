"""Good pictures from a folder. Nothing but good pictures gets in: a test folder is never opened here."""

import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.core import SUFFIXES
from engine.images import to_square
from engine.tiles import ONE, Tiling

from .errors import DataError
from .origin import digest_of
from .takes import copies, takes

MIN_GOOD = 10
# Measured with the light teacher: 3.8 GB, and three minutes of CPU before the first step.
MOST_GOOD = 2000
# Folders of an MVTec layout that only evaluation opens.
_EVALUATION = ("test", "ground_truth")
_TWELVE_BITS = 4096
_HELD_OUT_SHARE, _HELD_OUT_MAX, _HELD_OUT_RUNS = 0.25, 60, 8
# Of the runs, how many may cut through takes; and how much more than wished whole takes may hold.
_RUNS_CUT, _RUNS_LONGER = 0.25, 1.5
HELD_OUT_RULE = (
    "a quarter of the good pictures, at least 8 and about 60 at most (of fewer than 24 a third), as up to 8 "
    "runs of neighbours by name, each in the middle of an equal part of the sequence; takes of one part "
    "stay together, for which there are fewer runs where parts have many; none that was filed as a false "
    "alarm"
)
# What the page files as `False alarm`: its name ends with a hash of the pixels.
_FILED = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z-[0-9a-f]{16}\.png")


@dataclass(frozen=True, slots=True, eq=False)
class GoodPictures:
    """All good pictures of one camera in memory: `pixels` (N, h, w, 3) uint8 RGB in the order of `names`.

    `notes` are sentences for the person: what was converted, skipped, or looks wrong.
    """

    pixels: NDArray[np.uint8]
    names: tuple[str, ...]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def split(self, odd: NDArray[np.bool_] | None = None) -> tuple["GoodPictures", "GoodPictures"]:
        """(for training, held out), by HELD_OUT_RULE; the same pictures give the same split.

        Runs of whole takes, not single pictures: a threshold set on near-copies of training pictures is far
        too low on tomorrow's parts. Spread over the sequence and never its end: what is newest is what
        training must learn from. Pictures that are `odd` (N,) are always for training, and so are filed false
        alarms: the highest of thousands of pictures are no sample of them.
        """
        ordinary = np.flatnonzero(~odd) if odd is not None else np.arange(len(self))
        asked = ordinary[~self.filed[ordinary]]
        if len(asked) >= MIN_GOOD:
            ordinary = asked
        # Copies of one picture stand together, whatever their names are.
        ordinary = ordinary[np.argsort(copies(self.pixels[ordinary]), kind="stable")]
        out = np.zeros(len(self), dtype=bool)
        for run in _held_out_runs(takes(self.pixels[ordinary])):
            out[ordinary[run]] = True
        return self.some(~out), replace(self.some(out), notes=())

    @property
    def filed(self) -> NDArray[np.bool_]:
        """Which were filed as false alarms, by their names, (N,)."""
        return np.array([_FILED.fullmatch(name) is not None for name in self.names], dtype=bool)

    def squeezed(self, side_px: int) -> NDArray[np.uint8]:
        """(N, side_px, side_px, 3): each picture as a whole at network size."""
        return np.stack([to_square(whole, side_px) for whole in self.pixels])

    def some(self, chosen: NDArray[np.bool_]) -> "GoodPictures":
        """Those where `chosen` (N,) is True, with the notes of all."""
        names = tuple(name for name, is_in in zip(self.names, chosen, strict=True) if is_in)
        return GoodPictures(self.pixels[chosen], names, self.notes)


def _held_out_runs(take_of: NDArray[np.int64]) -> list[slice]:
    """Where the held-out runs lie among pictures of these takes (N,): in the middle of equal parts, moved on
    to where a take begins, and to where one ends.
    """
    pictures = len(take_of)
    count = math.ceil(pictures / 3)
    if pictures >= 24:
        count = min(max(round(pictures * _HELD_OUT_SHARE), 8), _HELD_OUT_MAX)
    begins = np.flatnonzero(np.diff(take_of, prepend=-1))
    most = min(_HELD_OUT_RUNS, max(1, count // 2))
    for parts in range(most, 0, -1):
        runs, cut = _runs_in(parts, pictures, count, begins)
        if cut <= _RUNS_CUT * parts and sum(r.stop - r.start for r in runs) <= _RUNS_LONGER * count:
            return runs
    whole = [(a, b) for a in begins for b in begins if count / 2 <= b - a <= 2 * count]
    if whole:
        middle = min(whole, key=lambda run: (abs(run[1] - run[0] - count), abs(sum(run) - pictures)))
        return [slice(*middle)]
    # One part fills nearly all of it: no run can leave it out.
    return _runs_in(most, pictures, count, begins)[0]


def _runs_in(parts: int, pictures: int, count: int, begins: NDArray[np.int64]) -> tuple[list[slice], int]:
    """One run in each of so many equal parts of the sequence, and how many of them cut through a take."""
    runs, cut = [], 0
    for part in range(parts):
        begin, end = part * pictures // parts, (part + 1) * pictures // parts
        length = (part + 1) * count // parts - part * count // parts
        first = begin + (end - begin - length) // 2
        starts = [at for at in begins if first <= at <= end - length]
        ends = [at for at in begins if starts and starts[0] + length <= at <= end]
        # A take as long as its part of the sequence can't stay together.
        cut += not ends
        runs.append(slice(starts[0], ends[0]) if ends else slice(first, first + length))
    return runs, cut


def good_folder(data: Path) -> Path:
    """`data`/train/good of an MVTec layout, else `data` itself when it holds pictures.

    Raises DataError, also for a folder of a test set or of its masks.
    """
    try:
        folder = _good_folder(data)
        refuse_evaluation(folder, "name a folder of good pictures")
        return folder
    except OSError as error:
        raise unreadable(data, error) from error


def _good_folder(data: Path) -> Path:
    if not data.is_dir():
        raise DataError(f"{data} is not a folder; give one with good pictures, or one that has train/good.")
    if (data / "train" / "good").is_dir():
        return data / "train" / "good"
    if (data / "test").is_dir() or (data / "ground_truth").is_dir():
        raise DataError(f"{data} has test pictures but no train/good; training takes good pictures only.")
    return data


def refuse_evaluation(folder: Path, instead: str) -> None:
    """Raises DataError if `folder` is, or lies in, `test` or `ground_truth` of an MVTec layout.

    The name alone says nothing: another folder of the layout must stand beside it.
    """
    ways = [folder.resolve()]
    if ".." not in folder.parts:  # a test folder may itself be a link to elsewhere
        ways.append(folder.absolute())
    for inside in (upper for way in ways for upper in (way, *way.parents)):
        others = {"train/good", *_EVALUATION} - {inside.name}
        if inside.name in _EVALUATION and any((inside.parent / other).is_dir() for other in others):
            raise DataError(
                f"{folder} belongs to the test set of {inside.parent}, which must stay out of training: "
                f"{instead}."
            )


def list_pictures(folder: Path) -> list[Path]:
    """Picture files of one folder, not of its subfolders, numbers in names compared as numbers; the order
    depends on nothing but the names.

    Raises DataError for a folder that can't be read.
    """
    try:
        inside = list(folder.iterdir())
    except OSError as error:
        raise unreadable(folder, error) from error
    found = [p for p in inside if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    return sorted(found, key=lambda p: (_numbers_in(p.name), p.name))


def at_most(paths: Sequence[Path], most: int) -> list[Path]:
    """Of more than `most` pictures the newest filed false alarms, up to half of it, and of the others as many
    as there is room for, evenly spread; in the order of `paths`. Ours.
    """
    if len(paths) <= most:
        return list(paths)
    filed = [path for path in paths if _FILED.fullmatch(path.name)]
    others = [path for path in paths if not _FILED.fullmatch(path.name)]
    filed = filed[-max(most // 2, most - len(others)) :]
    room = min(most - len(filed), len(others))
    chosen = {*filed, *(others[i * len(others) // room] for i in range(room))}
    return [path for path in paths if path in chosen]


def _numbers_in(name: str) -> list[tuple[int, str]]:
    return [(int(t), "") if t.isdecimal() else (-1, t) for t in re.split(r"(\d+)", name)]


def read_picture(path: Path) -> tuple[NDArray[np.uint8], str]:
    """One picture as (H, W, 3) uint8 RGB, and what was converted ("" if nothing).

    Grey becomes three equal channels, alpha is dropped, CMYK becomes RGB, 16 bits are scaled to 8, the
    camera's orientation mark is obeyed. Raises DataError for what isn't a picture or has float pixels.
    """
    pixels, kind, _ = _read(path)
    return pixels, kind


def _read(path: Path) -> tuple[NDArray[np.uint8], str, int | None]:
    """As `read_picture`, and the highest value of a 16-bit picture as it is on disk, None for others."""
    data = _bytes(path)
    raw = _decode(path, data, cv2.IMREAD_UNCHANGED)
    if raw.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path} has {raw.dtype} pixels; save it with 8 or 16 bits a channel.")
    colour = _decode(path, data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH)
    kind = {2: "grey", 4: "four channels (alpha or CMYK)"}.get(
        raw.ndim if raw.ndim == 2 else raw.shape[2], ""
    )
    if _is_cmyk_jpeg(data.tobytes()):  # decoded to three channels, whatever was asked for
        kind = "CMYK"
    peak = None
    if colour.dtype == np.uint16:
        peak = int(colour.max())
        colour = (colour // 257).astype(np.uint8)
        kind = f"16-bit {kind}".strip()
    return np.ascontiguousarray(colour, dtype=np.uint8), kind, peak


def load_good(data: Path, input_px: int, tiles: str = ONE) -> GoodPictures:
    """Every good picture under `data` at the size that all tiles need together, one of 1x1 at network size.
    Of files that are byte for byte the same the first by name.

    Of more than MOST_GOOD those of `at_most`. Raises DataError, in one sentence that says what to do.
    """
    folder, tiling = good_folder(data), Tiling.of(input_px, tiles)
    fitted, names, notes, peaks, twice = [], [], [], [], []
    seen: set[str] = set()
    kinds: Counter[str] = Counter()
    sizes: Counter[tuple[int, ...]] = Counter()
    found = list_pictures(folder)
    taken = at_most(found, MOST_GOOD)
    for path in taken:
        try:
            pixels, kind, peak = _read(path)
        except DataError as error:
            notes.append(f"Skipped: {error}")
            continue
        if (digest := digest_of(path)) in seen:
            twice.append(path.name)
            continue
        seen.add(digest)
        kinds[kind] += 1
        sizes[pixels.shape[:2]] += 1
        peaks += [] if peak is None else [peak]
        fitted.append(tiling.fit(pixels))
        names.append(path.name)
    unused = " and ".join(filter(None, [_copied(twice), _unused(folder)]))
    _check_count(folder, len(fitted), notes, unused)
    notes += [f"{unused}."] if unused else []
    notes += _left_out(len(found), len(taken))
    notes += [*_remarks(kinds, sizes), *_too_dark(peaks), *_too_small(sizes, tiling)]
    return GoodPictures(np.stack(fitted), tuple(names), tuple(notes))


def _left_out(found: int, taken: int) -> list[str]:
    if found == taken:
        return []
    return [
        f"{taken:,} of {found:,} pictures are used, spread over all of them, with the newest that were filed "
        "as false alarms: more would take memory and time, and teach little."
    ]


def unreadable(folder: Path, error: OSError) -> DataError:
    """What to raise for a folder that the system won't read."""
    return DataError(f"The folder {folder} can't be read: {error.strerror}.")


def _bytes(path: Path) -> NDArray[np.uint8]:
    try:
        if path.is_fifo():  # reading it may never end
            raise DataError(f"{path} is a pipe and no picture; delete it.")
        return np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}.") from error


def _decode(path: Path, data: NDArray[np.uint8], flags: int) -> NDArray[np.generic]:
    try:
        pixels = cv2.imdecode(data, flags) if data.size else None
    except cv2.error:
        pixels = None
    if pixels is None:
        raise DataError(
            f"{path} is not a readable picture (of 100 megapixels at most); delete it or save it again."
        )
    return np.asarray(pixels)


def _is_cmyk_jpeg(data: bytes) -> bool:
    """Whether the frame header (SOF) of a JPEG tells of four components. False for any other file."""
    at = 2 if data[:2] == b"\xff\xd8" else len(data)
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[at + 9] == 4
        # Fill bytes may precede a marker; every segment says its own length.
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4])
    return False


def _copied(names: Sequence[str]) -> str:
    return f"{len(names)} copies of other files, such as {names[0]}, don't count" if names else ""


def _unused(folder: Path) -> str:
    """What else lies in a folder of good pictures, in words without a full stop; "" if nothing."""
    try:
        inside = [p for p in sorted(folder.iterdir()) if _is_seen(p.name)]
        folders = [p for p in inside if p.is_dir() and _has_pictures(p)]
        others = [p for p in inside if p.suffix.lower() not in SUFFIXES and not p.is_dir()]
    except OSError:  # pictures that can't be reached either have said so
        return ""
    counted = [f"{len(others)} files of other kinds"] if others else []
    counted += [f"{len(folders)} subfolders with pictures"] if folders else []
    if not counted:
        return ""
    return f"{' and '.join(counted)} are not used, such as {(folders or others)[0].name}"


def _has_pictures(folder: Path) -> bool:
    """At whatever depth."""
    for _, inner, files in os.walk(folder):
        inner[:] = filter(_is_seen, inner)
        if any(Path(name).suffix.lower() in SUFFIXES for name in filter(_is_seen, files)):
            return True
    return False


def _is_seen(name: str) -> bool:
    """Of what lies beside good pictures: nothing that is hidden, or that only evaluation opens."""
    return not name.startswith(".") and name not in _EVALUATION


def _check_count(folder: Path, count: int, notes: list[str], unused: str) -> None:
    if count >= MIN_GOOD:
        return
    besides = f" ({unused})" if unused else ""
    if count == 0 and not notes:
        raise DataError(
            f"{folder} holds no pictures of {', '.join(sorted(SUFFIXES))}{besides}; capture good ones first, "
            "or name the folder that holds them."
        )
    skipped = f" ({len(notes)} could not be read: {notes[0].removeprefix('Skipped: ')})" if notes else ""
    raise DataError(
        f"{folder} holds {count} good pictures{skipped}{besides}; at least {MIN_GOOD} are needed, better 50: "
        "capture more."
    )


def _too_small(sizes: Counter[tuple[int, ...]], tiling: Tiling) -> list[str]:
    """A word on tiles that show the network nothing that fewer wouldn't."""
    height, width = tiling.canvas
    small = sum(count for (h, w), count in sizes.items() if h < height and w < width)
    if tiling.count == 1 or small < sum(sizes.values()):
        return []
    return [
        f"Tiles {tiling} need pictures of {width}x{height} and these are smaller: fewer tiles would show as "
        "much, and cost less."
    ]


def _too_dark(peaks: Sequence[int]) -> list[str]:
    """A word on 16-bit pictures that use twelve bits; `peaks` are their highest values."""
    if not peaks or max(peaks) >= _TWELVE_BITS:
        return []
    return [
        f"The {len(peaks)} 16-bit pictures all stay below {_TWELVE_BITS}, as 12 bits do, and become nearly "
        "black: multiply their values by 16, or save them with 8 bits."
    ]


def _remarks(kinds: Counter[str], sizes: Counter[tuple[int, ...]]) -> list[str]:
    notes = [
        f"{count} pictures were converted from {kind} to 8-bit RGB." for kind, count in kinds.items() if kind
    ]
    if len(sizes) > 1:
        smallest, largest = min(sizes), max(sizes)
        notes.append(
            f"Pictures have {len(sizes)} different sizes ({smallest[1]}x{smallest[0]} to "
            f"{largest[1]}x{largest[0]}); each is squeezed to the same square."
        )
    return notes
