"""What goes through the network together: frames of one teacher and input size, as squares of that size.

Pure. A frame in tiles is several squares; a camera's squares stand together, as its own network looks at
them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .backend import Prepared
from .core import Frame
from .fitting import Picture
from .library import Entry
from .tiles import Tiling

Entries = Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class Group:
    """Frames that share a teacher and an input size; frames of one tiling, of one camera stand together.

    `places[i]` is where frame i stood in the batch.
    """

    teacher: str
    frames: tuple[Frame, ...]
    entries: tuple[Entry, ...]
    places: tuple[int, ...]

    def pictures(self) -> list[Picture]:
        """What the network looks at, before it is brought to size."""
        return [(frame.pixels, entry.tiling) for frame, entry in zip(self.frames, self.entries, strict=True)]

    def networks(self) -> list[tuple[Entry, slice]]:
        """Whose network looks at which of the squares: one slice for each run of frames of a camera."""
        found: list[tuple[Entry, slice]] = []
        for entry, start, stop in self._spans():
            if found and found[-1][0] is entry:
                found[-1] = (entry, slice(found[-1][1].start, stop))
            else:
                found.append((entry, slice(start, stop)))
        return found

    def sheets(self) -> list["Sheet"]:
        """The group in runs of frames whose maps have one size."""
        found: list[Sheet] = []
        for index, (entry, start, stop) in enumerate(self._spans()):
            if found and found[-1].tiling == entry.tiling:
                old = found[-1]
                found[-1] = Sheet(
                    old.tiling, slice(old.frames.start, index + 1), slice(old.squares.start, stop)
                )
            else:
                found.append(Sheet(entry.tiling, slice(index, index + 1), slice(start, stop)))
        return found

    def _spans(self) -> Iterator[tuple[Entry, int, int]]:
        start = 0
        for entry in self.entries:
            yield entry, start, (start := start + entry.tiling.count)


@dataclass(frozen=True, slots=True)
class Sheet:
    """Which frames and squares of a group go together behind the network."""

    tiling: Tiling
    frames: slice
    squares: slice


def groups(frames: Sequence[Frame], entries: Entries) -> list[Group]:
    keyed: dict[tuple[str, int], dict[str, list[int]]] = {}
    for place, frame in enumerate(frames):
        entry = entries[frame.camera]
        key = (entry.network.teacher, entry.artifact.input_px)
        keyed.setdefault(key, {}).setdefault(frame.camera, []).append(place)
    groups = []
    for (teacher, _), cameras in keyed.items():
        # Of one tiling side by side: what follows the network is then one call for all of them. And the same
        # cameras always in the same order, so that a back end may know them again.
        ordered = sorted(cameras, key=lambda camera: (str(entries[camera].tiling), camera))
        places = [place for camera in ordered for place in cameras[camera]]
        together = tuple(frames[place] for place in places)
        groups.append(Group(teacher, together, tuple(entries[f.camera] for f in together), tuple(places)))
    return groups


def at_most(
    count: int, networks: Sequence[tuple[Entry, slice]]
) -> Iterator[tuple[list[tuple[Prepared, slice]], slice]]:
    """The squares of a group in parts of at most `count`: whose network looks at which of the part, and where
    the part lies."""
    end = networks[-1][1].stop
    for begin in range(0, end, count):
        part = slice(begin, min(begin + count, end))
        mine = [
            (entry.network, slice(max(run.start, part.start) - begin, min(run.stop, part.stop) - begin))
            for entry, run in networks
            if run.start < part.stop and run.stop > part.start
        ]
        yield mine, part
