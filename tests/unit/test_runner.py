"""One batch in, one inspection for each frame out."""

import math
import threading
import time
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import nn

from engine.artifact import Artifact
from engine.choose import choose_device
from engine.core import Batch, Frame
from engine.errors import ArtifactError, DeviceError, EngineError, OutOfMemory
from engine.library import CameraTuning, Library
from engine.runner import Runner, plateau
from engine.torch_backend import TorchBackend
from tests.models import SIDE, TinyTeacher, bright_spot, tiny_artifact, tiny_backend

DARK = np.full((64, 96, 3), 20, dtype=np.uint8)
ANY_SIZE = CameraTuning(min_area_px=1.0)


def frame(camera: str = "top", pixels: np.ndarray | None = None, seq: int = 1) -> Frame:
    return Frame(camera, seq, 0.0, time.monotonic(), bright_spot() if pixels is None else pixels)


def runner(**cameras: CameraTuning) -> Runner:
    made = Runner(Library(), backend=tiny_backend())
    for camera, tuning in (cameras or {"top": ANY_SIZE}).items():
        made.library.put(camera, tiny_artifact(), tuning)
    return made


def test_a_defect_comes_out_where_it_is_on_the_frame() -> None:
    [seen] = runner().run(Batch((frame(),)))
    [defect] = seen.defects
    assert defect.box == (12, 8, 24, 20) and defect.area_px == 144
    assert defect.centroid == pytest.approx((18.0, 14.0))
    assert seen.score_ratio > 1.0 and defect.peak > 1.0


def test_a_good_frame_has_no_defect() -> None:
    [seen] = runner().run(Batch((frame(pixels=DARK),)))
    assert seen.defects == () and seen.score_ratio < 1.0


def test_the_score_and_its_ratio_tell_the_same() -> None:
    [seen] = runner().run(Batch((frame(pixels=DARK),)))
    assert seen.score == pytest.approx(20 / 255, abs=1e-6)
    span = seen.model.threshold - seen.model.median
    assert seen.score_ratio == pytest.approx((seen.score - seen.model.median) / span)


def test_frames_of_different_sizes_go_together_and_come_out_in_order() -> None:
    small = bright_spot(32, 32, (4, 4, 12, 12))
    seen = runner(a=ANY_SIZE, b=ANY_SIZE, c=ANY_SIZE).run(
        Batch((frame("b", small, 5), frame("a", DARK, 6), frame("c", None, 7)))
    )
    assert [(i.frame.camera, i.frame.seq) for i in seen] == [("b", 5), ("a", 6), ("c", 7)]
    assert [[d.box for d in i.defects] for i in seen] == [[(4, 4, 12, 12)], [], [(12, 8, 24, 20)]]


def test_the_teacher_looks_once_for_all_cameras_that_share_it() -> None:
    used = runner(a=ANY_SIZE, b=ANY_SIZE)
    backend = used.backend
    assert isinstance(backend, TorchBackend)
    teacher = backend.teacher("tiny")
    assert isinstance(teacher, TinyTeacher)
    teacher.batches.clear()
    used.run(Batch((frame("a"), frame("b"), frame("a", seq=2))))
    assert teacher.batches == [3]


def test_cameras_with_other_input_sizes_are_their_own_group() -> None:
    used = runner()
    used.library.put("fine", tiny_artifact(input_px=64), ANY_SIZE)
    seen = used.run(Batch((frame("fine"), frame("top"), frame("fine", seq=2))))
    assert [(i.frame.camera, i.frame.seq) for i in seen] == [("fine", 1), ("top", 1), ("fine", 2)]
    assert all(len(i.defects) == 1 for i in seen)


def test_each_camera_has_its_own_model() -> None:
    used = runner()
    used.library.put("blind", tiny_artifact(gain=0.0, name="blind", version=4), ANY_SIZE)
    top, blind = used.run(Batch((frame("top"), frame("blind"))))
    assert len(top.defects) == 1 and blind.defects == ()
    assert (blind.model.name, blind.model.version) == ("blind", 4)


def test_nothing_is_found_outside_the_region_of_interest() -> None:
    right = CameraTuning(min_area_px=1.0, roi=((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)))
    [seen] = runner(top=right).run(Batch((frame(),)))
    assert seen.defects == () and seen.score_ratio < 1.0
    assert seen.map_small.max() < 1.0


def test_a_mask_does_not_raise_an_alarm_where_everything_else_is_anomalous() -> None:
    masked = CameraTuning(min_area_px=1.0, masks=(((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)),))
    [seen] = runner(top=masked).run(Batch((frame(pixels=np.full_like(DARK, 250)),)))
    assert [d.box for d in seen.defects] == [(48, 0, 96, 64)]


def test_regions_smaller_than_what_was_calibrated_do_not_count() -> None:
    used = runner()
    artifact = tiny_artifact()
    strict = replace(artifact, calibration=replace(artifact.calibration, min_area_px=100))
    used.library.put("top", strict, ANY_SIZE)
    assert used.run(Batch((frame(),)))[0].defects == ()


def test_the_small_map_belongs_to_its_own_frame_and_keeps_small_peaks() -> None:
    used = runner()
    used.library.put("large", tiny_artifact(input_px=256), ANY_SIZE)
    spot = np.full((256, 256, 3), 20, dtype=np.uint8)
    spot[100, 100] = 250
    top, large = used.run(Batch((frame("top"), frame("large", spot))))
    assert top.map_small.shape == (SIDE, SIDE) and large.map_small.shape == (64, 64)
    assert large.map_small[25, 25] > 1.0
    assert large.map_small.base is None and large.map_small.dtype == np.float32


def test_timings_name_every_stage() -> None:
    [seen] = runner().run(Batch((frame(),)))
    assert list(seen.timings_s) == ["queue", "upload", "teacher", "student", "maps", "regions"]


def test_the_seconds_of_a_stage_are_those_of_all_groups_of_the_batch() -> None:
    used = runner()
    used.library.put("fine", tiny_artifact(input_px=64), ANY_SIZE)
    features = used.backend.features

    def slow(teacher: str, images: torch.Tensor) -> object:
        time.sleep(0.05)
        return features(teacher, images)

    used.backend.features = slow  # type: ignore[method-assign]
    first, second = used.run(Batch((frame("fine"), frame("top"))))
    assert first.timings_s["teacher"] == second.timings_s["teacher"] >= 0.1


def test_a_zone_is_forgotten_with_its_camera_and_with_its_successor() -> None:
    half = CameraTuning(min_area_px=1.0, roi=((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)))
    used = runner(gone=half, top=half, free=half)
    used.run(Batch((frame("gone"), frame("top"), frame("free"))))
    used.library.remove("gone")
    used.library.tune("free", ANY_SIZE)
    used.run(Batch((frame("top"), frame("free"))))
    assert list(used._track._zones) == ["top"]


def test_a_model_put_while_running_serves_the_next_batch() -> None:
    used = runner()
    before = used.library.snapshot()
    used.library.put("top", tiny_artifact(gain=0.0, version=2), ANY_SIZE)
    batch = Batch((frame(),))
    assert used.run(batch, before)[0].model.version == 1
    assert used.run(batch)[0].model.version == 2


def test_a_model_of_another_teacher_is_refused_and_the_old_one_goes_on() -> None:
    used = runner()
    with pytest.raises(ArtifactError, match="another tiny"):
        used.library.put("top", replace(tiny_artifact(version=2), teacher_sha256="0" * 64))
    assert used.run(Batch((frame(),)))[0].model.version == 1


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(ArtifactError, match="don't fit"):
        runner().library.put("top", replace(tiny_artifact(), state={"other": torch.zeros(1)}))


@pytest.mark.parametrize(("level", "said"), [(0.0, "not above the median"), (math.inf, "no defect can")])
def test_a_threshold_that_tells_nothing_apart_is_refused(level: float, said: str) -> None:
    with pytest.raises(ArtifactError, match=said):
        runner().library.tune("top", CameraTuning(threshold=level))


def test_a_threshold_moves_the_alarm_level_at_once() -> None:
    used = runner()
    used.library.tune("top", replace(ANY_SIZE, threshold=0.99))
    assert used.run(Batch((frame(),)))[0].defects == ()


def test_a_zone_that_leaves_nothing_is_refused() -> None:
    whole = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    with pytest.raises(ArtifactError, match="nothing to inspect"):
        runner().library.tune("top", CameraTuning(masks=(whole,)))


def break_model(used: Runner, camera: str) -> None:
    """From now on it answers no numbers, which it did when it was put."""
    entry = used.library.get(camera)
    assert entry is not None
    entry.network.network.gain.fill_(math.nan)


def test_a_model_that_answers_no_numbers_is_an_error_not_a_good_part() -> None:
    used = runner()
    break_model(used, "top")
    with pytest.raises(ArtifactError, match="not numbers"):
        used.run(Batch((frame(),)))


@pytest.mark.parametrize("bf16", [False, True])
def test_a_model_that_answers_no_numbers_from_the_start_does_not_displace_the_old_one(bf16: bool) -> None:
    used = Runner(Library(), backend=tiny_backend(bf16=bf16))
    used.library.put("top", tiny_artifact(), ANY_SIZE)
    with pytest.raises(ArtifactError, match="not numbers"):
        used.library.put("top", tiny_artifact(gain=math.nan, version=2))
    assert used.run(Batch((frame(),)))[0].model.version == 1


def test_a_size_that_is_not_known_is_said() -> None:
    used = Runner(Library(), backend=TorchBackend(torch.device("cpu"), bf16=False))
    with pytest.raises(EngineError, match="no model size 'huge'"):
        used.library.put("top", replace(tiny_artifact(real="lite", input_px=64), size="huge"))


class CupyError(RuntimeError):
    """As CuPy's are: it has no common class for them, only their modules' names."""


CupyError.__module__ = "cupy_backends.cuda.api.runtime"
OF_OPENVINO = RuntimeError(
    "Exception from src/inference/src/cpp/infer_request.cpp:224:\n"
    "Exception from src/plugins/intel_cpu/src/infer_request.cpp:377:\nThe request was lost.\n\n"
)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (CupyError("cudaErrorIllegalAddress: an illegal memory access"), "an illegal memory access"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling x"), "EXECUTION_FAILED"),
        (RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED"), "NOT_INITIALIZED"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), "INTERNAL_ERROR"),
        (RuntimeError("CUDA driver error: device not ready"), "not ready"),
        (OF_OPENVINO, r"failed \(The request was lost"),
    ],
)
def test_an_error_of_the_device_that_comes_as_any_other_is_known_by_its_words(
    error: Exception, says: str
) -> None:
    used = runner()

    def lost(*_: object) -> None:
        raise error

    used.backend.raw_maps = lost  # type: ignore[method-assign, assignment]
    with pytest.raises(DeviceError, match=says):
        used.run(Batch((frame(),)))


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (OF_OPENVINO, ArtifactError, r"tiny@2 can't run here \(The request was lost"),
        (RuntimeError("shapes differ"), ArtifactError, r"shapes differ"),
        (ValueError("no such size"), ArtifactError, "no such size"),
        (RuntimeError("CUDA error: an illegal memory access"), DeviceError, "The device failed"),
    ],
)
def test_what_goes_wrong_with_a_new_model_is_said_and_the_old_one_goes_on(
    error: Exception, kind: type[EngineError], says: str
) -> None:
    used = runner()

    def broken(_: object) -> None:
        raise error

    used.backend.prepare = broken  # type: ignore[method-assign, assignment]
    with pytest.raises(kind, match=says):
        used.library.put("top", tiny_artifact(version=2))
    assert used.run(Batch((frame(),)))[0].model.version == 1


def test_a_lack_of_memory_is_a_device_error_that_may_pass() -> None:
    used, of_cuda = runner(), torch.AcceleratorError("CUDA error: out of memory")
    of_cuda.error_code = 2  # where memory is not taken from torch's pool
    of_cudnn = RuntimeError("GET was unable to find an engine to execute this computation")
    for error in (torch.OutOfMemoryError("CUDA out of memory."), of_cuda, of_cudnn):
        used.backend.features = Mock(side_effect=error)  # type: ignore[method-assign]
        with pytest.raises(OutOfMemory, match="no memory left"):
            used.run(Batch((frame(),)))


def test_a_bug_in_the_network_passes_as_the_bug_it_is() -> None:
    used = runner()
    with pytest.raises(RuntimeError) as caught:
        used.run(Batch((frame(pixels=np.zeros((4, 4), dtype=np.uint8)),)))
    assert not isinstance(caught.value, EngineError)


def test_warming_up_runs_every_model_alone_and_together() -> None:
    used = runner(a=ANY_SIZE, b=ANY_SIZE)
    backend = used.backend
    assert isinstance(backend, TorchBackend)
    teacher = backend.teacher("tiny")
    assert isinstance(teacher, TinyTeacher)
    teacher.batches.clear()
    used.warm_up(max_batch=4)
    assert teacher.batches[:2] == [1, 1] and teacher.batches[-1] == 2


def test_warming_up_takes_out_only_the_camera_whose_model_gives_no_numbers() -> None:
    used = runner(a=ANY_SIZE, b=ANY_SIZE)
    used.library.put("bad", tiny_artifact(name="bad"), ANY_SIZE)
    break_model(used, "bad")
    [(camera, error)] = used.warm_up(max_batch=4)
    assert camera == "bad" and "not numbers" in str(error)
    assert list(used.library.snapshot()) == ["a", "b"]


def test_a_lack_of_memory_for_a_model_is_a_device_error() -> None:
    backend = tiny_backend()
    used = Runner(Library(), backend=backend)

    def exhausted(_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    backend.network = exhausted  # type: ignore[method-assign, assignment]
    with pytest.raises(DeviceError, match="no memory left for the model tiny@1"):
        used.library.put("top", tiny_artifact())


def test_another_device_takes_over_all_models_but_those_it_cannot_run() -> None:
    used = runner(a=ANY_SIZE, b=ANY_SIZE)
    used.library.put("odd", replace(tiny_artifact(), name="odd"), ANY_SIZE)
    spare = tiny_backend()
    network = spare.network

    def picky(artifact: Artifact) -> nn.Module:
        if artifact.name == "odd":
            raise ArtifactError("Its weights don't fit.")
        return network(artifact)

    spare.network = picky  # type: ignore[method-assign]
    taken_over = Runner(used.library, backend=spare)
    assert [camera for camera, _ in taken_over.refused] == ["odd"]
    assert len(taken_over.run(Batch((frame("a"), frame("b"))))) == 2


def test_an_alarm_level_can_be_set_while_a_model_is_prepared() -> None:
    backend = tiny_backend()
    used = Runner(Library(), backend=backend)
    used.library.put("top", tiny_artifact(), ANY_SIZE)
    entered, allow, network = threading.Event(), threading.Event(), backend.network

    def slow(artifact: Artifact) -> nn.Module:
        entered.set()
        assert allow.wait(5.0)
        return network(artifact)

    backend.network = slow  # type: ignore[method-assign]
    putting = threading.Thread(target=used.library.put, args=("side", tiny_artifact()))
    putting.start()
    assert entered.wait(5.0)
    tuning = threading.Thread(target=used.library.tune, args=("top", replace(ANY_SIZE, threshold=0.99)))
    tuning.start()
    tuning.join(5.0)
    level = used.library.snapshot()["top"].info.threshold
    allow.set()
    putting.join(5.0)
    assert level == 0.99 and list(used.library.snapshot()) == ["top", "side"]


@pytest.mark.parametrize("wish", ["gpu", "mps"])
def test_a_device_that_is_not_there_is_said_so(wish: str) -> None:
    with pytest.raises(DeviceError, match=wish):
        choose_device(wish)


def test_the_real_network_runs_through_the_runner() -> None:
    real = Runner(Library(), "cpu", backend="torch", precision="float32")
    real.library.put("top", tiny_artifact(real="lite", version=1, input_px=128))
    real.library.put("side", tiny_artifact(real="lite", version=2, input_px=128))
    seen = real.run(Batch((frame("top"), frame("side"))))
    assert [i.frame.camera for i in seen] == ["top", "side"]
    assert seen[0].score != seen[1].score


def test_a_larger_batch_that_costs_as_much_a_frame_is_no_gain() -> None:
    flat = {1: 0.020, 2: 0.0105, 4: 0.0101, 8: 0.0100}
    assert plateau(flat, 8) == 2
    assert plateau({1: 0.01, 2: 0.01, 4: 0.01}, 4) == 1
    assert plateau({1: 0.08, 2: 0.04, 4: 0.02, 8: 0.01}, 8) is None
    assert plateau({}, 8) is None


def test_warming_up_measures_up_to_what_may_go_together() -> None:
    used = runner(a=ANY_SIZE, b=ANY_SIZE, c=ANY_SIZE)
    used.warm_up(max_batch=1)
    assert used.plateau is None
    used.warm_up(max_batch=16)
    assert used.plateau in (None, 2)
