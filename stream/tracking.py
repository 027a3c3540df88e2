"""Which region of this frame is which defect of the last one. Pure geometry in frame pixels (ours).

Parts move on the line, so a defect is looked for where it would be by now: its last place plus its own
velocity, or, while that is unknown, the velocity that the other defects of this camera have. A region joins
the track whose predicted box it overlaps most, else the nearest one within `max_move_share` of the frame's
diagonal. Several regions may join one track (a scratch that falls into pieces); new regions closer than
`join_share` start one track.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import hypot

from engine.core import Defect

FBox = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Motion:
    """How far things may be apart: shares of the frame's diagonal; `smoothing` of the velocity, 1 = the
    newest only.
    """

    max_move_share: float = 0.15
    join_share: float = 0.03
    smoothing: float = 0.5


@dataclass(slots=True)
class Track:
    """One defect over frames. `velocity` is px/s, None until seen twice; `tick` is monotonic seconds."""

    defects: tuple[Defect, ...]
    tick: float
    box: FBox
    velocity: tuple[float, float] | None = field(default=None)

    @classmethod
    def start(cls, defects: tuple[Defect, ...], tick: float) -> "Track":
        return cls(defects, tick, hull(defects))

    def move(self, defects: tuple[Defect, ...], tick: float, motion: Motion) -> None:
        """The track was seen again, as these regions."""
        box = hull(defects)
        elapsed_s = tick - self.tick
        if elapsed_s > 0:
            (x0, y0), (x1, y1) = centre(self.box), centre(box)
            vx, vy = (x1 - x0) / elapsed_s, (y1 - y0) / elapsed_s
            if self.velocity is not None:
                a = motion.smoothing
                vx, vy = a * vx + (1 - a) * self.velocity[0], a * vy + (1 - a) * self.velocity[1]
            self.velocity = (vx, vy)
        self.defects, self.box, self.tick = defects, box, tick

    def predicted(self, tick: float, drift: tuple[float, float]) -> FBox:
        vx, vy = drift if self.velocity is None else self.velocity
        dx, dy = vx * (tick - self.tick), vy * (tick - self.tick)
        return (self.box[0] + dx, self.box[1] + dy, self.box[2] + dx, self.box[3] + dy)


def assign(
    tracks: Sequence[Track], defects: Sequence[Defect], tick: float, size_px: tuple[int, int], motion: Motion
) -> tuple[list[tuple[Defect, ...]], list[tuple[Defect, ...]]]:
    """Shares out a frame's regions: a tuple for each track (empty: not seen), and the new groups."""
    diagonal = hypot(*size_px)
    drift = common_velocity(tracks)
    places = [track.predicted(tick, drift) for track in tracks]
    taken: list[list[Defect]] = [[] for _ in tracks]
    rest: list[Defect] = []
    for defect in defects:
        overlapping = _most_overlapped(defect, tracks, places)
        (rest if overlapping is None else taken[overlapping]).append(defect)
    rest = _take_nearest(rest, tracks, places, taken, motion.max_move_share * diagonal)
    rest = _take_beside(rest, taken, motion.join_share * diagonal)
    return [tuple(t) for t in taken], group(rest, motion.join_share * diagonal)


def common_velocity(tracks: Sequence[Track]) -> tuple[float, float]:
    """Mean velocity of the tracks that have one, px/s: what a part's second defect moves like."""
    known = [t.velocity for t in tracks if t.velocity is not None]
    if not known:
        return (0.0, 0.0)
    return (sum(v[0] for v in known) / len(known), sum(v[1] for v in known) / len(known))


def group(defects: Sequence[Defect], gap_px: float) -> list[tuple[Defect, ...]]:
    """Regions that lie within `gap_px` of each other, directly or over others, together."""
    groups: list[list[Defect]] = []
    for defect in defects:
        near = [g for g in groups if any(gap(defect.box, other.box) <= gap_px for other in g)]
        groups = [g for g in groups if g not in near]
        groups.append([d for g in near for d in g] + [defect])
    return [tuple(g) for g in groups]


def hull(defects: Sequence[Defect]) -> FBox:
    """The smallest box around all of them."""
    boxes = [d.box for d in defects]
    return (
        float(min(b[0] for b in boxes)),
        float(min(b[1] for b in boxes)),
        float(max(b[2] for b in boxes)),
        float(max(b[3] for b in boxes)),
    )


def centre(box: FBox) -> tuple[float, float]:
    return ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)


def overlap_px(a: FBox, b: FBox) -> float:
    """Area that two boxes share."""
    # Nearly all pairs of a picture: asked for each region and each track, of every frame.
    if a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]:
        return 0.0
    return (min(a[2], b[2]) - max(a[0], b[0])) * (min(a[3], b[3]) - max(a[1], b[1]))


def overlaps(a: FBox, b: FBox) -> bool:
    return overlap_px(a, b) > 0


def gap(a: FBox, b: FBox) -> float:
    """Distance between two boxes' nearest edges; 0 when they touch."""
    return hypot(max(0.0, a[0] - b[2], b[0] - a[2]), max(0.0, a[1] - b[3], b[1] - a[3]))


def _most_overlapped(defect: Defect, tracks: Sequence[Track], places: Sequence[FBox]) -> int | None:
    """The predicted place wins over the place where it was: parts move, but may stop."""
    shared = [
        (overlap_px(defect.box, place), overlap_px(defect.box, track.box), index)
        for index, (track, place) in enumerate(zip(tracks, places, strict=True))
    ]
    best = max(shared, default=(0.0, 0.0, -1))
    return best[2] if best[0] > 0 or best[1] > 0 else None


def _take_nearest(
    defects: list[Defect],
    tracks: Sequence[Track],
    places: Sequence[FBox],
    taken: list[list[Defect]],
    reach_px: float,
) -> list[Defect]:
    """Nearest pairs first; a track that overlap has served already takes nobody from afar."""
    pairs = sorted(
        (min(gap(d.box, places[t]), gap(d.box, tracks[t].box)), t, k)
        for t in range(len(tracks))
        if not taken[t]
        for k, d in enumerate(defects)
    )
    used: set[int] = set()
    for distance, t, k in pairs:
        if distance <= reach_px and not taken[t] and k not in used:
            taken[t].append(defects[k])
            used.add(k)
    return [d for k, d in enumerate(defects) if k not in used]


def _take_beside(defects: list[Defect], taken: list[list[Defect]], gap_px: float) -> list[Defect]:
    """Pieces that lie beside a region that a track has just been given belong to that track."""
    rest = []
    for defect in defects:
        near = next((t for t in taken if any(gap(defect.box, d.box) <= gap_px for d in t)), None)
        if near is None:
            rest.append(defect)
        else:
            near.append(defect)
    return rest
