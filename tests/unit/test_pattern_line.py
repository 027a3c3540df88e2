"""The pattern production line: reproducible, believable in its numbers, and true in its masks."""

import numpy as np
import pytest

from stream.sim.flaws import KINDS, add, box_of
from stream.sim.line import CYCLE_S, SLIDE_S, ProductionLine, defect_times
from stream.sim.looks import LOOKS
from stream.sim.shows import PatternShow

SMALL = (320, 240)


def line(look: str = "machined", seed: int = 3, **more: object) -> ProductionLine:
    return ProductionLine(look, seed, SMALL, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("look", LOOKS)
def test_the_same_seed_and_time_give_the_same_picture(look: str) -> None:
    a, b = line(look), line(look)
    b.picture(9.0)  # what was asked before changes nothing
    for at_s in (0.0, 0.7, 3.21):
        assert np.array_equal(a.picture(at_s), b.picture(at_s))


def test_another_seed_gives_other_parts() -> None:
    assert abs(line(seed=3).picture(0.9).astype(int) - line(seed=4).picture(0.9)).mean() > 2


@pytest.mark.parametrize("look", LOOKS)
def test_a_minute_shows_eight_to_twelve_defects(look: str) -> None:
    for seed in range(5):
        assert 8 <= len(defect_times(line(look, seed), 60)) <= 12


@pytest.mark.parametrize("seed", range(5))
def test_two_good_parts_come_between_two_defective_ones(seed: int) -> None:
    a = line(seed=seed)
    bad = [i for i in range(200) if a.defective(i)]
    assert min(np.diff(bad)) >= 3


def test_a_part_stands_for_about_a_second() -> None:
    a = line()
    stands = [a.starts_s(i + 1) - a.starts_s(i) - SLIDE_S for i in range(100)]
    assert min(stands) > 1.0 and max(stands) < 1.7


@pytest.mark.parametrize("look", LOOKS)
def test_the_mask_is_where_the_defective_part_differs_from_the_good_one(look: str) -> None:
    a = line(look)
    for at_s in defect_times(a, 30):
        shown, good = a.picture(at_s + 0.1), a.picture(at_s + 0.1, good_before_s=1e9)
        mask = a.mask(at_s + 0.1)
        change = abs(shown.astype(int) - good).max(axis=2)
        (defect,) = a.shot(at_s + 0.1).defects
        x0, y0, x1, y1 = defect.box
        assert box_of(mask) == (x0, y0, x1, y1)
        assert change[mask].mean() > 20  # a person sees it
        outside = np.ones(mask.shape, bool)
        outside[max(0, y0 - 6) : y1 + 6, max(0, x0 - 6) : x1 + 6] = False
        assert change[outside].max() <= 14  # and nothing else was touched


@pytest.mark.parametrize(("look", "kind"), [(look, kind) for look in LOOKS for kind in LOOKS[look].kinds])
def test_every_kind_is_visible_and_of_a_size_to_be_found(look: str, kind: str) -> None:
    part = LOOKS[look].part(np.random.default_rng(1), 1.0)
    for seed in range(4):
        flaw = add(part, kind, np.random.default_rng(seed))
        x0, y0, x1, y1 = box_of(flaw.mask)
        assert 12 <= max(x1 - x0, y1 - y0) <= 80
        assert (abs(flaw.pixels.astype(int) - part.pixels).max(axis=2)[flaw.mask]).mean() > 20


def test_every_kind_belongs_to_a_look() -> None:
    assert {kind for look in LOOKS.values() for kind in look.kinds} == set(KINDS)


def test_a_short_run_shows_most_kinds() -> None:
    a = line()
    kinds = {d.kind for at_s in defect_times(a, 45) for d in a.shot(at_s).defects}
    assert len(kinds) >= 5


def test_flicker_and_noise_stay_small_while_a_part_stands() -> None:
    a = line()
    stills = np.stack([a.picture(a.starts_s(3) + SLIDE_S + 0.05 * i).astype(int) for i in range(10)])
    assert 0.5 < np.median(stills.std(axis=0)) < 4
    assert np.ptp(stills.mean(axis=(1, 2, 3))) > 0.3


def test_while_learning_all_parts_are_good_and_the_part_in_view_stays_as_it_is() -> None:
    show = PatternShow("machined", 3, SMALL)
    at_s = defect_times(line(), 30)[0] + 0.2
    show.set_phase("learn", 0.0)
    assert show.shot(at_s).phase == "learn" and not show.shot(at_s).defects and not show.mask(at_s).any()
    show.set_phase("live", at_s)
    assert not show.shot(at_s).defects  # it came in as a good one
    later = next(t for t in defect_times(line(), 60) if t > at_s + CYCLE_S)
    assert show.shot(later).phase == "live" and show.shot(later).defects


def test_no_share_no_defects_and_a_tenth_is_a_tenth() -> None:
    none, tenth, every = (line(defect_share=share) for share in (0, 0.1, 1))
    assert not any(none.defective(i) for i in range(50))
    assert sum(tenth.defective(i) for i in range(200)) == 20
    assert all(every.defective(i) for i in range(5))


def test_masks_move_with_the_part() -> None:
    a = line()
    begin = defect_times(a, 30)[0] - SLIDE_S
    entering, standing = a.mask(begin + 0.7 * SLIDE_S), a.mask(begin + SLIDE_S + 0.1)
    (defect,) = a.shot(begin + SLIDE_S + 0.1).defects
    assert standing.any() and box_of(standing) == defect.box
    if entering.any():
        assert box_of(entering)[0] > defect.box[0] and box_of(entering)[1] == defect.box[1]
