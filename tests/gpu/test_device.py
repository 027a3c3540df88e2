"""The same results on a CUDA device, with CuPy on torch's memory, stream and pool.

Deselected by default (`-m gpu` selects them): they need a CUDA device and the extra cuda12 or cuda13, and a
machine without one can say nothing about either. They need neither pydantic nor av nor redis.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.backend import Prepared
from engine.core import Batch, Frame, Inspection
from engine.engine import Engine
from engine.fitting import fitted_on_device
from engine.library import CameraTuning, Library
from engine.recorded import CudaGraphs, Recorded, why_not
from engine.regions import View, find
from engine.runner import Runner
from engine.stacked import Stack
from engine.tiles import Tiling
from engine.torch_backend import TorchBackend
from engine.xp import ArrayLibrary, library_for, numpy_library
from tests.golden.make_regions import FILE, examples, result
from tests.models import bright_spot, interleaved, tiny_artifact, tiny_backend

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def cupy_library() -> ArrayLibrary:
    found = library_for(torch.device("cuda", 0))
    assert found.on_device, "CuPy is not installed or sees no device"
    return found


def test_cupy_finds_the_golden_regions(cupy_library: ArrayLibrary) -> None:
    golden = json.loads(FILE.read_text(encoding="ascii"))
    assert {name: result(name, cupy_library) for name in examples()} == golden


def test_both_libraries_find_the_same_in_random_maps(cupy_library: ArrayLibrary) -> None:
    maps = np.random.default_rng(3).random((8, 96, 128), dtype=np.float32) * 1.4
    views = [View(640, 480, 20.0)] * 8
    with cupy_library.on_stream(torch.device("cuda", 0)):
        there = find(cupy_library.xp.asarray(maps), views, cupy_library)
    here = find(maps, views, numpy_library())
    assert [[d.box for d in one] for one in there] == [[d.box for d in one] for one in here]


def test_frames_are_brought_to_size_there_as_on_the_host() -> None:
    dice = np.random.default_rng(5)
    pictures = [
        (dice.integers(0, 256, (height, width, 3), dtype=np.uint8), Tiling.of(64, words))
        for height, width, words in ((480, 640, "1x1"), (20, 30, "1x1"), (300, 200, "2x1"))
    ]
    there = fitted_on_device(pictures, torch.device("cuda", 0)).cpu()
    here = fitted_on_device(pictures, torch.device("cpu"))
    assert there.shape == (4, 3, 64, 64)
    assert (there - here).abs().max() < 1.5 / 255.0


def test_cupy_sees_torchs_memory_without_a_copy(cupy_library: ArrayLibrary) -> None:
    tensor = torch.zeros(16, device="cuda")
    cupy_library.from_torch(tensor)[3] = 7
    torch.cuda.synchronize()
    assert tensor[3].item() == 7


def test_cupy_allocates_from_torchs_pool_and_gives_back(cupy_library: ArrayLibrary) -> None:
    before = torch.cuda.memory_allocated()
    block = cupy_library.xp.empty(1 << 22, dtype=np.uint8)
    assert torch.cuda.memory_allocated() >= before + (1 << 22)
    del block
    assert torch.cuda.memory_allocated() == before


def test_cupy_works_on_torchs_current_stream(cupy_library: ArrayLibrary) -> None:
    device, stream = torch.device("cuda", 0), torch.cuda.Stream()
    with torch.cuda.stream(stream), cupy_library.on_stream(device):
        assert cupy_library.xp.cuda.get_current_stream().ptr == stream.cuda_stream


def test_a_runner_on_cuda_answers_as_one_on_the_cpu() -> None:
    answers = []
    for device in ("cpu", "cuda"):
        library = Library()
        runner = Runner(library, backend=tiny_backend(torch.device(device)))
        library.put(
            "top", tiny_artifact(), CameraTuning(min_area_px=1.0, roi=((0, 0), (0.9, 0), (0.9, 1), (0, 1)))
        )
        answers.append(runner.run(Batch((Frame("top", 1, 0.0, time.monotonic(), bright_spot()),)))[0])
    here, there = answers
    assert [d.box for d in here.defects] == [d.box for d in there.defects] != []
    assert there.score_ratio == pytest.approx(here.score_ratio, abs=0.01)
    assert np.allclose(here.map_small, there.map_small, atol=0.02)


def test_the_real_network_agrees_in_bf16_and_float32() -> None:
    backend = TorchBackend(torch.device("cuda", 0))
    assert backend.prepare(tiny_artifact(real="lite", input_px=64)).teacher.endswith("/bf16")


def test_a_picture_in_tiles_is_seen_on_cuda_as_on_the_cpu() -> None:
    answers = []
    for device in ("cpu", "cuda"):
        runner = Runner(Library(), backend=tiny_backend(torch.device(device)))
        for camera, tiles in (("plain", "1x1"), ("tiled", "2x3")):
            runner.library.put(camera, replace(tiny_artifact(), tiles=tiles), CameraTuning(min_area_px=1.0))
        spot = bright_spot(240, 320, (100, 60, 220, 180))
        frames = tuple(Frame(camera, 1, 0.0, time.monotonic(), spot) for camera in ("tiled", "plain"))
        answers.append(runner.run(Batch(frames)))
    for here, there in zip(*answers, strict=True):
        assert [d.box for d in here.defects] == [d.box for d in there.defects] != []


def real_networks(backend: TorchBackend, count: int) -> list[tuple[Prepared, slice]]:
    made = [backend.prepare(tiny_artifact(real="lite", version=v, input_px=64)) for v in range(1, count + 1)]
    assert all(prepared.teacher.endswith("/bf16") for prepared in made)
    return [(prepared, slice(k, k + 1)) for k, prepared in enumerate(made)]


def test_stacked_networks_answer_on_cuda_as_one_by_one() -> None:
    backend = TorchBackend(torch.device("cuda", 0))
    networks = real_networks(backend, 4)
    images = torch.rand(4, 3, 64, 64, device="cuda")
    features = backend.features(networks[0][0].teacher, images)
    with torch.inference_mode():
        stack = Stack(networks[0][0].network, 4)
        stack.load([prepared.network for prepared, _ in networks])
        [together] = stack(images, *features)
    assert (together - backend.raw_maps(networks, images, features)).abs().max() < 0.05


def test_a_recorded_teacher_and_stack_answer_as_they_do_unrecorded() -> None:
    """Whatever is faster here: with a capture of CUDA's own, for as many pictures and for fewer."""
    device = torch.device("cuda", 0)
    backend = TorchBackend(device)
    networks = real_networks(backend, 4)
    capture, teacher = CudaGraphs(device), networks[0][0].teacher
    images = torch.rand(4, 3, 64, 64, device="cuda").contiguous(memory_format=torch.channels_last)
    plain_features = backend.features(teacher, images)
    plain = backend.raw_maps(networks, images, plain_features)
    with torch.inference_mode():
        blank = torch.zeros_like(images)
        taught = Recorded(lambda pictures: backend.features(teacher, pictures), [blank], capture)
        stack = Stack(networks[0][0].network, 4)
        stack.load([prepared.network for prepared, _ in networks])
        seen = Recorded(stack, [blank, *taught(blank)], capture)
        for count in (4, 1, 3):
            features = taught(images[:count])
            [maps] = seen(images[:count], *features)
            for one, other in zip(features, plain_features, strict=True):
                assert torch.allclose(one.float(), other[:count].float(), rtol=0.02, atol=0.02)
            assert (maps - plain[:count]).abs().max() < 0.05


def test_warming_up_records_while_another_thread_gets_models_ready() -> None:
    device = torch.device("cuda", 0)
    backend = TorchBackend(device)
    networks, images = real_networks(backend, 3), torch.rand(3, 3, 64, 64, device="cuda")
    plain = backend.raw_maps(networks, images, backend.features(networks[0][0].teacher, images))
    with ThreadPoolExecutor(1) as others:
        late = others.submit(real_networks, backend, 8)
        backend.settle(networks, images, 16)
        assert len(late.result()) == 8
    after = backend.raw_maps(networks, images, backend.features(networks[0][0].teacher, images))
    assert (after - plain).abs().max() < 0.05


def test_a_call_that_can_not_be_recorded_leaves_stream_and_device_well() -> None:
    device, here = torch.device("cuda", 0), torch.ones(4, device="cuda")
    stream = torch.cuda.current_stream()

    def asks_the_device(one: torch.Tensor) -> tuple[torch.Tensor]:
        return (one * float(one.sum().item()),)

    capture = CudaGraphs(device)
    with torch.inference_mode(), pytest.raises(RuntimeError) as refused:
        Recorded(asks_the_device, [here], capture)
    assert why_not(refused.value) is not None
    assert torch.cuda.current_stream() == stream
    assert asks_the_device(here)[0].tolist() == [4.0] * 4
    with pytest.raises(RuntimeError):
        Recorded(lambda one: (one + 1,), [here], capture)
    # Another one's captures are none the worse.
    with torch.inference_mode():
        [more] = Recorded(lambda one: (one + 1,), [here], CudaGraphs(device))(here)
    assert more.tolist() == [2.0] * 4


def test_a_recording_answers_the_same_after_others_were_dropped() -> None:
    device = torch.device("cuda", 0)
    capture, here = CudaGraphs(device), torch.rand(8, 64, 64, device="cuda")

    def product(one: torch.Tensor) -> tuple[torch.Tensor]:
        return (one @ one,)

    with torch.inference_mode():
        kept = Recorded(product, [here], capture)
        [before] = kept(here)
        for _ in range(40):  # more than torch has streams
            Recorded(product, [here], capture)(here)
        [after] = kept(here)
    assert torch.equal(before, after)


def test_an_absent_camera_in_the_middle_shifts_the_others_and_changes_nothing() -> None:
    backend = TorchBackend(torch.device("cuda", 0))
    networks, images = real_networks(backend, 4), torch.rand(4, 3, 64, 64, device="cuda")
    plain = backend.raw_maps(networks, images, backend.features(networks[0][0].teacher, images))
    backend.settle(networks, images, 4)
    for here in ([0, 1, 2, 3], [0, 2, 3], [3], [0, 1, 2, 3]):
        shown = images[here]
        present = [(networks[k][0], slice(place, place + 1)) for place, k in enumerate(here)]
        maps = backend.raw_maps(present, shown, backend.features(networks[0][0].teacher, shown))
        assert (maps - plain[here]).abs().max() < 0.05


def spotted(seq: int, pictures: int) -> Batch:
    """Frames of four cameras, of two sizes, the spot somewhere else on each."""
    dice, frames = np.random.default_rng(seq), []
    for number in range(pictures):
        height, width = ((480, 640), (64, 96))[number % 2]
        x, y = int(dice.integers(0, width - 40)), int(dice.integers(0, height - 40))
        spot = bright_spot(height, width, (x, y, x + 32, y + 32))
        frames.append(Frame(f"camera-{number % 4}", seq, 0.0, time.monotonic(), spot))
    return Batch(tuple(frames))


@pytest.mark.parametrize("real", [None, "lite"])
def test_batches_whose_steps_interleave_say_what_they_say_alone(real: str | None) -> None:
    """Uploads on their own stream, beside what is computed: a batch must never see another one's pictures."""
    device = torch.device("cuda", 0)
    backend = tiny_backend(device) if real is None else TorchBackend(device)
    runner = Runner(Library(), backend=backend)
    half = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0))
    for number in range(4):
        artifact = tiny_artifact(real=real, version=number + 1, input_px=64)
        tuning = CameraTuning(min_area_px=1.0, roi=half if number == 1 else None)
        runner.library.put(f"camera-{number}", artifact, tuning)
    assert runner.overlaps(1) and runner.warm_up(max_batch=16) == []
    batches = [spotted(seq, 1 + seq % 16) for seq in range(1, 60)]
    plain, told = [runner.run(one) for one in batches], interleaved(runner, batches)
    assert any(seen.defects for seen in plain[0])
    for alone, beside in zip(plain, told, strict=True):
        for one_alone, one_beside in zip(alone, beside, strict=True):
            assert one_alone.frame is one_beside.frame
            assert one_beside.score_ratio == pytest.approx(one_alone.score_ratio, abs=0.02)
            assert np.allclose(one_beside.map_small, one_alone.map_small, atol=0.05)
            if real is None:
                assert [d.box for d in one_beside.defects] == [d.box for d in one_alone.defects]


def warm_runner() -> Runner:
    """With four cameras, after a batch that has regions: what is done for the first time (kernels loaded,
    memory got) may wait for all that the device does."""
    runner = Runner(Library(), backend=tiny_backend(torch.device("cuda", 0)))
    for number in range(4):
        runner.library.put(f"camera-{number}", tiny_artifact(input_px=64), CameraTuning(min_area_px=1.0))
    runner.warm_up(max_batch=4)
    runner.run(spotted(1, 4))
    return runner


def test_computing_is_told_to_the_device_without_waiting_for_it() -> None:
    runner = warm_runner()
    torch.cuda._sleep(2_000_000_000)  # a second or so of nothing, on the stream that computes
    started = time.monotonic()
    begun = runner.begin(spotted(1, 4))
    assert runner._track._uploads is not None
    runner._track._uploads.synchronize()  # what is sent doesn't wait for what is computed
    begun.compute()
    told_s = time.monotonic() - started
    begun.fetch()
    assert told_s < 0.5 * (time.monotonic() - started)
    assert all(seen.defects for seen in begun.inspections())


def test_regions_are_measured_without_waiting_for_the_batch_behind() -> None:
    runner = warm_runner()
    first, second = runner.begin(spotted(1, 4)), runner.begin(spotted(2, 4))
    first.compute()
    torch.cuda._sleep(2_000_000_000)  # a second or so of nothing, on the stream that computes
    second.compute()
    started = time.monotonic()
    first.fetch()
    measured_s = time.monotonic() - started
    second.fetch()
    assert measured_s < 0.5 * (time.monotonic() - started)
    assert all(seen.defects for seen in [*first.inspections(), *second.inspections()])


def test_no_call_is_recorded_on_the_stream_on_which_frames_are_sent() -> None:
    device = torch.device("cuda", 0)
    track = Runner(Library(), backend=tiny_backend(device))._track
    capture = CudaGraphs(device)
    assert track._uploads is not None and track._regions is not None
    taken = {capture._unused_stream().cuda_stream for _ in range(64)}
    assert not taken & {track._uploads.cuda_stream, track._regions.cuda_stream}


def test_batches_that_overlap_take_no_more_and_more_memory_also_after_a_recording_that_failed() -> None:
    device = torch.device("cuda", 0)
    runner = Runner(Library(), backend=tiny_backend(device))
    runner.library.put("camera-0", tiny_artifact(input_px=64), CameraTuning(min_area_px=1.0))
    with torch.inference_mode(), pytest.raises(RuntimeError):
        Recorded(lambda one: (one * one.sum().item(),), [torch.ones(4, device=device)], CudaGraphs(device))

    def held_after(batches: int) -> int:
        ahead = runner.begin(spotted(1, 1))
        ahead.compute()
        for seq in range(2, 2 + batches):
            begun = runner.begin(spotted(seq, 1))
            begun.compute()
            ahead.fetch()
            ahead = begun
        ahead.fetch()
        return int(torch.cuda.memory_stats(device)["active_bytes.all.current"])

    after_a_few = held_after(5)
    assert held_after(50) <= after_a_few


def test_an_engine_on_cuda_tells_of_every_frame_once_and_in_order() -> None:
    runner = Runner(Library(), backend=tiny_backend(torch.device("cuda", 0)))
    cameras = [f"camera-{number}" for number in range(4)]
    for camera in cameras:
        runner.library.put(camera, tiny_artifact(input_px=64), CameraTuning(min_area_px=1.0))
    runner.warm_up(max_batch=8)
    told: list[Inspection] = []
    line = Engine(runner, max_batch=4, deadline_ms=60_000.0, line_frames=64, on_inspections=told.extend)
    for camera in cameras:
        line.set_mode(camera, "every")
    for seq in range(1, 51):
        for camera in cameras:
            assert line.offer(Frame(camera, seq, 0.0, time.monotonic(), bright_spot(480, 640)))
    line.start()
    deadline = time.monotonic() + 60.0
    while len(told) < 200 and line.failed is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert line.stop() and line.failed is None
    for camera in cameras:
        assert [one.frame.seq for one in told if one.frame.camera == camera] == list(range(1, 51))
    assert {one.defects for one in told} == {told[0].defects} and told[0].defects
