"""A batch's way through the device, step by step: what lies between the steps changes nothing."""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, ClassVar, NoReturn

import numpy as np
import pytest
import scipy.ndimage
import torch

from engine.core import Batch, Frame, Inspection
from engine.errors import DeviceError
from engine.library import CameraTuning, Library
from engine.runner import Runner
from engine.xp import ArrayLibrary
from tests.fake_device import Waits
from tests.models import bright_spot, interleaved, tiny_artifact, tiny_backend

RIGHT = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0))


@pytest.fixture(params=["all on the host", "networks in a thread", "maps and regions on the device"])
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    """In each way in which the work may be shared out."""
    backend = tiny_backend()
    backend.works_beside = request.param == "networks in a thread"
    made = Runner(Library(), backend=backend)
    made._track.measures = request.param == "maps and regions on the device"
    for camera, tuning in {
        "top": CameraTuning(min_area_px=1.0),
        "side": CameraTuning(min_area_px=1.0, roi=RIGHT),
        "fine": CameraTuning(min_area_px=1.0),
    }.items():
        made.library.put(camera, tiny_artifact(input_px=64 if camera == "fine" else 32), tuning)
    yield made
    made._track.lane = None  # pytest holds the runner, and with it the thread


def batch(seq: int) -> Batch:
    """Each camera with a spot somewhere else each time, on pictures of different sizes."""
    dice, frames = np.random.default_rng(seq), []
    for camera, (height, width) in {"top": (64, 96), "side": (120, 160), "fine": (64, 96)}.items():
        x, y = int(dice.integers(0, width - 20)), int(dice.integers(0, height - 20))
        spot = bright_spot(height, width, (x, y, x + 16, y + 16))
        frames.append(Frame(camera, seq, 0.0, time.monotonic(), spot))
    return Batch(tuple(frames))


def same(one: Inspection, other: Inspection) -> bool:
    numbers = (one.score, one.score_ratio, one.defects) == (other.score, other.score_ratio, other.defects)
    return numbers and one.frame is other.frame and np.array_equal(one.map_small, other.map_small)


def test_batches_whose_steps_interleave_say_what_they_say_alone(runner: Runner) -> None:
    batches = [batch(seq) for seq in range(1, 5)]
    plain, told = [runner.run(one) for one in batches], interleaved(runner, batches)
    assert any(seen.defects for seen in plain[0])
    for alone, beside in zip(plain, told, strict=True):
        assert all(same(*pair) for pair in zip(alone, beside, strict=True))


def test_a_batch_keeps_the_models_with_which_it_began(runner: Runner) -> None:
    begun = runner.begin(batch(1))
    runner.library.put("top", tiny_artifact(gain=0.5, version=2))
    runner.library.remove("side")
    begun.compute()
    runner.run(Batch(batch(2).frames[:1]))
    begun.fetch()
    assert [(i.frame.camera, i.model.version) for i in begun.inspections()] == [
        ("top", 1),
        ("side", 1),
        ("fine", 1),
    ]


@pytest.mark.parametrize("runner", ["maps and regions on the device"], indirect=True)
def test_computing_asks_nothing_for_which_a_host_would_wait(runner: Runner) -> None:
    runner.run(batch(1))
    begun = runner.begin(batch(2))
    with Waits() as waits:
        begun.compute()
    begun.fetch()
    assert waits.seen == [] and any(seen.defects for seen in begun.inspections())


class Untouched(ArrayLibrary):
    """As on a device; nothing may be measured with it."""

    def on_stream(self, device: torch.device) -> AbstractContextManager[None]:
        return nullcontext()

    def from_torch(self, tensor: torch.Tensor) -> NoReturn:
        pytest.fail("what lies on the device was asked for")


def test_where_nothing_is_above_the_alarm_level_no_map_is_measured_or_sent(runner: Runner) -> None:
    frame = batch(1).frames[0]
    dark = Batch((replace(frame, pixels=np.zeros_like(frame.pixels)),))
    runner._track.arrays = Untouched(np, scipy.ndimage, on_device=True)
    [seen] = runner.run(dark)
    assert seen.defects == () and seen.timings_s["regions"] >= 0.0


@pytest.mark.parametrize("runner", ["maps and regions on the device"], indirect=True)
def test_what_fails_in_the_next_batch_does_not_show_in_the_inspections_before(runner: Runner) -> None:
    """An error of CUDA shows in whatever is asked next, be it the time of an event."""
    begun = runner.begin(batch(1))
    begun.compute()
    begun.fetch()

    def lost(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    begun._watch.wait = lost  # type: ignore[method-assign]
    assert len(begun.inspections()) == 3


@pytest.mark.parametrize(
    ("step", "call"), [("begin", "upload"), ("compute", "features"), ("compute", "raw_maps")]
)
def test_each_step_says_in_our_words_that_the_device_failed(runner: Runner, step: str, call: str) -> None:
    def lost(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    setattr(runner.backend, call, lost)
    with pytest.raises(DeviceError, match="illegal memory access"):
        begun = runner.begin(batch(1))
        assert step == "compute"
        begun.compute()
        begun.fetch()


@pytest.mark.parametrize("runner", ["networks in a thread"], indirect=True)
def test_a_batch_is_told_while_the_next_one_is_computed(runner: Runner) -> None:
    assert runner.overlaps(2) and not runner.overlaps(1) and not runner.sends_ahead
    first, second = runner.begin(batch(1)), runner.begin(batch(2))
    first.compute()
    first.fetch()
    told, features = threading.Event(), runner.backend.features

    def until_told(*asked: Any) -> Any:
        assert told.wait(5.0)
        return features(*asked)

    runner.backend.features = until_told  # type: ignore[method-assign]
    second.compute()
    assert len(first.inspections()) == 3
    told.set()
    second.fetch()
    assert len(second.inspections()) == 3


@pytest.mark.parametrize("runner", ["networks in a thread"], indirect=True)
def test_no_two_batches_are_in_the_networks_at_once_also_not_one_of_a_single_picture(runner: Runner) -> None:
    """A batch that failed is tried again frame by frame while the next one is computed: its answers lay where
    the other one's did."""
    inside, features, most = threading.Lock(), runner.backend.features, list[bool]()

    def alone(*asked: Any) -> Any:
        most.append(inside.acquire(blocking=False))
        try:
            time.sleep(0.02)  # long enough for the other one to come in
            return features(*asked)
        finally:
            inside.release()

    runner.backend.features = alone  # type: ignore[method-assign]
    several, single = runner.begin(batch(1)), runner.begin(Batch(batch(2).frames[:1]))
    several.compute()
    single.compute()
    for begun in (single, several):
        begun.fetch()
    assert all(most) and len(single.inspections()) == 1 and len(several.inspections()) == 3


def test_the_seconds_of_the_stages_are_those_of_the_steps_and_not_of_what_lay_between(runner: Runner) -> None:
    before = time.monotonic()
    begun = runner.begin(batch(1))
    time.sleep(0.05)
    begun.compute()
    time.sleep(0.05)
    begun.fetch()
    timings_s = begun.inspections()[0].timings_s
    took_s = time.monotonic() - before
    seconds = {k: v for k, v in timings_s.items() if k != "queue"}
    assert set(seconds) == {"upload", "teacher", "student", "maps", "regions"}
    assert 0.0 < sum(seconds.values()) < took_s - 0.09


class Measured(ArrayLibrary):
    """Notes of what the regions were measured: how many cells, and how many above the alarm level."""

    seen: ClassVar[list[tuple[int, int]]] = []

    def from_torch(self, tensor: torch.Tensor) -> np.ndarray:
        self.seen.append((tensor.numel(), int((tensor > 1.0).sum())))
        return tensor.numpy()


def test_warming_up_measures_a_region_among_as_many_cells_as_a_batch_has(runner: Runner) -> None:
    """CuPy compiles at first use, and for a few hundred cells something else than for many."""
    runner._track.arrays = Measured(np, scipy.ndimage, on_device=False)
    runner.warm_up()
    assert any(above and cells >= 256 * 256 for cells, above in Measured.seen)


def test_a_device_that_fails_says_so_of_what_it_was_given_and_not_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who makes a runner learns only what it can't wish for: a failure leads to another device."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable")

    monkeypatch.setattr(torch.cuda, "Stream", broken)
    made = Runner(Library(), backend=tiny_backend(torch.device("cuda", 0)))
    assert made.overlaps(1)
    with pytest.raises(DeviceError, match="busy or unavailable"):
        made.begin(Batch(()), {})
